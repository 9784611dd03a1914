//! The manifests that a test runs: a copy of those that ship, edited as a user would.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tempfile::TempDir;

use crate::tokens::{ISSUER, LOCAL, Signer};

/// A folder of manifests that a test may change. It is there as long as anybody has it.
#[derive(Clone, Debug)]
pub struct Manifests {
    folder: Arc<TempDir>,
    /// The folder in it whose kustomization is the mesh; empty for the folder itself.
    mesh: &'static str,
    /// Whether the local issuer is run beside the mesh.
    issuer: bool,
    signer: Arc<OnceLock<Signer>>,
}

/// The two forms in which the filters ship, with the same placement and configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// A module and a WasmPlugin each.
    ThreeModules,
    /// All in one module.
    Bundle,
}

impl Form {
    /// Both.
    pub const ALL: [Self; 2] = [Self::ThreeModules, Self::Bundle];

    fn mesh(self) -> &'static str {
        match self {
            Self::ThreeModules => "",
            Self::Bundle => "istio/overlays/bundle",
        }
    }

    /// Where the limiter's configuration is: a file, and what its lines begin with.
    pub fn limiter(self) -> (&'static str, &'static str) {
        Filter::TenantRateLimit.place(self)
    }
}

/// The filters that ship.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Filter {
    /// Limits per tenant.
    TenantRateLimit,
    /// Classes of users.
    UserClassifier,
    /// Metrics of the business.
    BusinessMetrics,
}

impl Filter {
    /// Its module, and its section of the bundle's configuration.
    fn names(self) -> (&'static str, &'static str) {
        match self {
            Self::TenantRateLimit => ("tenant-rate-limit", "tenantRateLimit"),
            Self::UserClassifier => ("user-classifier", "userClassifier"),
            Self::BusinessMetrics => ("business-metrics", "businessMetrics"),
        }
    }

    /// Where the gateway's configuration of it is in this form: a file, and what the lines of it begin with.
    pub fn place(self, form: Form) -> (&'static str, &'static str) {
        match (form, self) {
            (Form::Bundle, _) => ("wasm-plugins/tollgate/plugin.yaml", "      "),
            (_, Self::TenantRateLimit) => ("wasm-plugins/tenant-rate-limit/plugin.yaml", "    "),
            (_, Self::UserClassifier) => ("wasm-plugins/user-classifier/plugin.yaml", "    "),
            (_, Self::BusinessMetrics) => ("wasm-plugins/business-metrics/plugin.yaml", "    "),
        }
    }

    /// The line above that.
    fn header(self, form: Form) -> String {
        match form {
            Form::ThreeModules => "  pluginConfig:\n".to_owned(),
            Form::Bundle => format!("    {}:\n", self.names().1),
        }
    }

    /// Its field in a WasmPlugin, as a finding names it: `spec.pluginConfig.tiers`.
    pub fn field(self, form: Form, field: &str) -> String {
        match form {
            Form::ThreeModules => format!("spec.pluginConfig.{field}"),
            Form::Bundle => format!("spec.pluginConfig.{}.{field}", self.names().1),
        }
    }

    /// What a WasmPlugin that has this filter alone says of it in this form: `url` and `pluginConfig`.
    pub fn plugin(self, form: Form, configuration: &Value) -> (String, Value) {
        let (module, section) = self.names();
        let url = |module: &str| format!("oci://ghcr.io/tollgate/{module}:0.1.0");
        match form {
            Form::ThreeModules => (url(module), configuration.clone()),
            Form::Bundle => (
                url("tollgate"),
                serde_json::json!({ section: configuration }),
            ),
        }
    }
}

/// The list of the mesh's rules, and in it that carts and orders are for who has a token.
const SECURITY: &str = "istio/security/kustomization.yaml";
const CUSTOMERS: &str = "- customers.yaml\n";

/// The repository: the folder above this crate.
pub fn repository() -> &'static Path {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here)
}

impl Manifests {
    /// A copy of everything that ships, with the mesh as it is where nothing else is asked for.
    pub fn shipped() -> Result<Self> {
        Self::of(Form::ThreeModules)
    }

    /// A copy of everything that ships, with the mesh that has the filters in this form.
    pub fn of(form: Form) -> Result<Self> {
        Self::copy(form.mesh())
    }

    /// A copy of everything that ships, with the mesh of this overlay: `istio/overlays/fault`.
    pub fn overlay(folder: &'static str) -> Result<Self> {
        Self::copy(folder)
    }

    fn copy(mesh: &'static str) -> Result<Self> {
        let folder = tempfile::Builder::new()
            .prefix("tollgate-manifests-")
            .tempdir()?;
        fs::copy(
            repository().join("kustomization.yaml"),
            folder.path().join("kustomization.yaml"),
        )?;
        for part in ["services", "istio", "wasm-plugins"] {
            copy_yaml(&repository().join(part), &folder.path().join(part))?;
        }
        let manifests = Self {
            folder: Arc::new(folder),
            mesh,
            // That overlay has it already.
            issuer: mesh != LOCAL,
            signer: Arc::default(),
        };
        if mesh != LOCAL {
            // Most tests have customers without tokens, too. What nobody may do is tested in that overlay and where a test says so.
            let list = manifests.file(SECURITY);
            let listed = fs::read_to_string(&list)?;
            fs::write(list, listed.replace(CUSTOMERS, ""))?;
        }
        Ok(manifests)
    }

    /// The same with carts and orders for nobody who has no token, as they ship.
    pub fn with_customers_alone(self) -> Result<Self> {
        self.replace(
            SECURITY,
            "resources:\n",
            &format!("resources:\n{CUSTOMERS}"),
        )?;
        Ok(self)
    }

    /// The same without the local issuer: for a mesh whose tokens are a test's own.
    pub fn without_issuer(mut self) -> Self {
        self.issuer = false;
        self
    }

    /// The form in which it has the filters.
    pub fn form(&self) -> Form {
        if self.mesh == Form::Bundle.mesh() {
            Form::Bundle
        } else {
            Form::ThreeModules
        }
    }

    /// Gives one of the gateway's filters, which it has in this form, another configuration: this text, whose lines are put as far in
    /// as they have to be.
    pub fn configure(&self, form: Form, filter: Filter, configuration: &str) -> Result<()> {
        let ((file, indent), header) = (filter.place(form), filter.header(form));
        let manifest = self.read(file)?;
        let begin = manifest
            .find(&header)
            .with_context(|| format!("no configuration of {filter:?} in {file}"))?;
        let (before, own) = manifest.split_at(begin + header.len());
        let length: usize = own
            .split_inclusive('\n')
            .take_while(|line| line.trim().is_empty() || line.starts_with(indent))
            .map(str::len)
            .sum();
        let (_, after) = own.split_at(length);
        let configuration: String = configuration
            .lines()
            .map(|line| format!("{indent}{line}\n"))
            .collect();
        self.write(file, &format!("{before}{configuration}{after}"))
    }

    /// Has one of the gateway's filters run in the module that sees bodies, or in the other.
    pub fn see_bodies(&self, filter: Filter, see: bool) -> Result<()> {
        let (file, _) = filter.place(self.form());
        let manifest = self.read(file)?;
        // The first is that of the gateway.
        let url = manifest.lines().find(|line| line.starts_with("  url: "));
        let url = url.with_context(|| format!("no url in {file}"))?;
        let plain = url.replace("-bodies:", ":");
        let wanted = match see {
            true => {
                let (name, version) = plain.rsplit_once(':').context("no version")?;
                format!("{name}-bodies:{version}")
            }
            false => plain,
        };
        self.write(file, &manifest.replacen(url, &wanted, 1))
    }

    /// Lets these tenants, who are or become ones of the tier standard, send more than any test does.
    pub fn lift_limits(&self, tenants: &[&str]) -> Result<()> {
        let (file, indent) = self.form().limiter();
        for tenant in tenants {
            let listed = format!("\n{indent}  {tenant}: {{tier: standard}}\n");
            let lifted = format!(
                "\n{indent}  {tenant}: {{tier: standard, limits: [{{name: rate, requests: 100000, per: 1s}}]}}\n"
            );
            if self.read(file)?.contains(&listed) {
                self.replace(file, &listed, &lifted)?;
            } else {
                let tenants = format!("\n{indent}tenants:");
                self.replace(file, &format!("{tenants}\n"), &(tenants + &lifted))?;
            }
        }
        Ok(())
    }

    /// Takes the limiter out: for a mesh where nobody says which tenant a request is of.
    pub fn without_limiter(&self) -> Result<()> {
        if self.form() == Form::ThreeModules {
            let modules = "wasm-plugins/kustomization.yaml";
            self.replace(modules, "- tenant-rate-limit\n", "")?;
            let (classifier, indent) = Filter::UserClassifier.place(Form::ThreeModules);
            return self.replace(
                classifier,
                &format!("{indent}tenant: {{vouched: true}}\n"),
                "",
            );
        }
        let (file, _) = self.form().limiter();
        let manifest = self.read(file)?;
        // The first is that of the gateway.
        let (begin, end) = ("    tenantRateLimit:\n", "    userClassifier:\n");
        let parts = manifest.split_once(begin).and_then(|(before, section)| {
            let (_, after) = section.split_once(end)?;
            Some(format!("{before}{end}{after}"))
        });
        self.write(
            file,
            &parts.with_context(|| format!("no limiter in {file}"))?,
        )
    }

    /// Takes the classifier out that ships for sidecars: for a mesh that has one of its own there.
    pub fn without_classifiers_at_sidecars(&self) -> Result<()> {
        if self.form() == Form::ThreeModules {
            let file = "wasm-plugins/user-classifier/kustomization.yaml";
            return self.replace(file, "- sidecar\n", "");
        }
        let file = "wasm-plugins/tollgate/plugin.yaml";
        let manifest = self.read(file)?;
        let (begin, end) = ("    userClassifier:\n", "    businessMetrics:\n");
        // The last is that of the sidecars.
        let parts = manifest.rsplit_once(begin).and_then(|(before, section)| {
            let (_, after) = section.split_once(end)?;
            Some(format!("{before}{end}{after}"))
        });
        self.write(
            file,
            &parts.with_context(|| format!("no sidecars in {file}"))?,
        )
    }

    /// Where the mesh is, and the issuer of its users' tokens: what `--manifests` takes.
    pub fn paths(&self) -> Vec<PathBuf> {
        let mut paths = vec![self.file(self.mesh)];
        paths.extend(self.issuer.then(|| self.file(ISSUER)));
        paths
    }

    /// What this user of this tenant writes into `authorization`.
    pub fn bearer(&self, user: &str, tenant: &str) -> Result<String> {
        self.bearer_saying(&serde_json::json!({"sub": user, "tenant": tenant}))
    }

    /// What somebody writes into `authorization` of whom the local issuer says this, beside what a token must say.
    pub fn bearer_saying(&self, claims: &Value) -> Result<String> {
        let signer = match self.signer.get() {
            Some(signer) => signer,
            None => {
                let signer = Signer::local(self)?;
                self.signer.get_or_init(|| signer)
            }
        };
        Ok(format!("Bearer {}", signer.sign_valid(claims)))
    }

    /// Where a file is, named as in the repository.
    pub fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Replaces `from`, which must be there exactly once, by `to` in a file. The file is replaced by renaming, as editors do.
    pub fn replace(&self, file: &str, from: &str, to: &str) -> Result<()> {
        let text = self.read(file)?;
        let times = text.matches(from).count();
        ensure!(times == 1, "{file} holds {from:?} {times} times, not once");
        self.write(file, &text.replacen(from, to, 1))
    }

    /// Replaces every `from`, of which there must be one, by `to` in a file.
    pub fn replace_all(&self, file: &str, from: &str, to: &str) -> Result<()> {
        let text = self.read(file)?;
        ensure!(text.contains(from), "{file} does not hold {from:?}");
        self.write(file, &text.replace(from, to))
    }

    /// What a file says.
    pub fn read(&self, file: &str) -> Result<String> {
        let path = self.file(file);
        fs::read_to_string(&path).with_context(|| path.display().to_string())
    }

    /// Writes a file whole.
    pub fn write(&self, file: &str, text: &str) -> Result<()> {
        let path = self.file(file);
        let beside = path.with_extension("tmp");
        fs::write(&beside, text)?;
        fs::rename(&beside, &path)?;
        Ok(())
    }
}

/// What is in git: not what a checkout's own local issuer has made.
fn copy_yaml(from: &Path, to: &Path) -> Result<()> {
    let entries: Vec<PathBuf> = fs::read_dir(from)?
        .map(|e| Ok(e?.path()))
        .collect::<std::io::Result<_>>()?;
    for path in entries {
        let Some(name) = path.file_name() else {
            continue;
        };
        if path.is_dir() {
            copy_yaml(&path, &to.join(name))?;
        } else if path.extension().is_some_and(|e| e == "yaml") && name != "jwks.yaml" {
            fs::create_dir_all(to)?;
            fs::copy(&path, to.join(name))?;
        }
    }
    Ok(())
}
