//! `tollgate simulate`: an access log, replayed through tenant-rate-limit: who would have been refused, when, and by which limit.
//!
//! [`log`] reads what was written, [`mod@replay`] asks the filter itself about each request, in a [`proxy`] whose clock shows the time of the log, and
//! [`figures`] counts what becomes of them. [`text`], [`json`] and [`html`] tell it.

mod configuration;
mod figures;
mod html;
mod json;
mod lacking;
pub(crate) mod log;
mod progress;
mod proxy;
mod replay;
mod text;
mod time;
mod token;

use std::collections::HashMap;
use std::io::Write as _;
use std::process::ExitCode;

use anyhow::{Context, bail};

use crate::args::{ClaimField, SimulateArgs, SimulateFormat};
use crate::console::{say, shown};
use figures::Figures;
use lacking::lacking;
use log::{Fields, TOLD, Traffic};
use progress::Progress;
use replay::{Setting, replay};

/// What there is to tell.
struct Report<'a> {
    traffic: &'a Traffic,
    figures: &'a Figures,
    /// The configuration, and the one that it is compared with.
    name: String,
    against: Option<String>,
    /// What they ask for and the logs lack, a sentence each.
    lacking: Vec<String>,
}

impl Report<'_> {
    /// When the first request began, and the last.
    fn span(&self) -> (u64, u64) {
        let moment = |entry: Option<&log::Entry>| entry.map_or(0, |entry| entry.time);
        let entries = &self.traffic.entries;
        (moment(entries.first()), moment(entries.last()))
    }
}

/// Replays the logs of the command line.
pub(crate) fn run(args: &SimulateArgs) -> anyhow::Result<ExitCode> {
    named_once(args)?;
    let configuration = configuration::read(&args.config, &args.namespace)?;
    let against = args.against.as_ref();
    let against = against
        .map(|path| configuration::read(path, &args.namespace))
        .transpose()?;
    let mut fields = Fields {
        headers: args.headers.clone(),
        claims: args
            .claims
            .iter()
            .map(|claim| (claim.path.clone(), claim.field.clone()))
            .collect(),
        peer: args.peer.clone(),
        time: args.time.clone(),
        ..Fields::default()
    };
    fields.want(&configuration);
    against
        .iter()
        .for_each(|configuration| fields.want(configuration));

    let progress = Progress::new();
    let traffic = log::read(&args.log, args.log_format.as_ref(), &fields, &progress)?;
    let setting = Setting {
        workers: args.workers,
        claims: args.claims.iter().map(|claim| claim.path.clone()).collect(),
    };
    let configurations = std::iter::once(&configuration).chain(&against);
    let configurations: Vec<String> = configurations.map(ToString::to_string).collect();
    let replays = replay(&configurations, &traffic, &setting, &progress)?;
    let mut replays = replays.into_iter();
    let (before, after) = (replays.next().unwrap_or_default(), replays.next());
    drop(progress);

    tell_mistakes(&traffic);
    if traffic.entries.is_empty() {
        bail!("there is no request to replay");
    }
    let stretches = match args.format {
        SimulateFormat::Text => text::COLUMNS,
        SimulateFormat::Json | SimulateFormat::Html => html::COLUMNS,
    };
    let figures = Figures::of(
        &traffic,
        &before,
        after.as_ref(),
        args.top as usize,
        stretches,
    );
    let name = shown(args.config.display());
    let against = against.map(|configuration| {
        let name = args.against.as_ref().map(|path| shown(path.display()));
        (name.unwrap_or_default(), configuration)
    });
    let mut lacks = lacking(&name, &configuration, &setting.claims, &traffic);
    if let Some((name, configuration)) = &against {
        lacks.extend(lacking(name, configuration, &setting.claims, &traffic));
    }
    lacks.iter().for_each(say);
    let report = Report {
        traffic: &traffic,
        figures: &figures,
        name,
        against: against.map(|(name, _)| name),
        lacking: lacks,
    };
    let mut out = anstream::stdout().lock();
    let told = match args.format {
        SimulateFormat::Text => write!(out, "{}", text::text(&report)?),
        SimulateFormat::Json => writeln!(out, "{}", json::json(&report)),
        SimulateFormat::Html => write!(out, "{}", html::page(&report)?),
    };
    told.and_then(|()| out.flush())
        .context("cannot write what the replay came to")?;
    Ok(ExitCode::SUCCESS)
}

/// Refuses two fields for one header or one claim: of these only one can be what the request had.
fn named_once(args: &SimulateArgs) -> anyhow::Result<()> {
    let headers = args.headers.iter();
    let headers = headers.map(|(name, field)| (format!("--header {name}"), field));
    let claims = args.claims.iter();
    let claims = claims.map(|claim| (format!("--claim {}", claim_name(&claim.path)), &claim.field));
    let mut known = HashMap::new();
    for (option, field) in headers.chain(claims) {
        if let Some(other) = known.insert(option.clone(), field) {
            bail!("{option}={other} and {option}={field}: a request has it once, name one field");
        }
    }
    Ok(())
}

/// Says which lines could not be read: a log that was read in part is no log of less traffic.
fn tell_mistakes(traffic: &Traffic) {
    for file in &traffic.files {
        for (line, why) in &file.mistakes {
            say(format!("{}:{line}: {why}", file.name));
        }
        if file.unreadable > TOLD as u64 {
            let more = text::grouped(file.unreadable - TOLD as u64);
            say(format!("{}: {more} more lines cannot be read", file.name));
        }
    }
}

/// A claim's path as the command line has it.
fn claim_name(path: &[String]) -> String {
    match path {
        [name] => name.clone(),
        path => serde_json::Value::from(path).to_string(),
    }
}

/// Reads `--header`.
pub(crate) fn parse_header_field(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, field)) if !name.is_empty() && !field.is_empty() => {
            Ok((name.to_ascii_lowercase(), field.to_owned()))
        }
        _ => Err("write NAME=FIELD, e.g. x-tenant-id=tenant".to_owned()),
    }
}

/// Reads `--claim`.
pub(crate) fn parse_claim_field(text: &str) -> Result<ClaimField, String> {
    const WRITE: &str =
        "write NAME=FIELD, e.g. tenant=x_tenant_id, or '[\"realm\", \"tenant\"]=x_tenant_id'";
    // The names around a claim may have any characters, so the field is what is behind the array.
    let (name, field) = match text.starts_with('[') {
        true => text
            .rsplit_once("]=")
            .map(|(name, field)| (format!("{name}]"), field)),
        false => text
            .split_once('=')
            .map(|(name, field)| (name.to_owned(), field)),
    }
    .ok_or(WRITE)?;
    let path = match name.starts_with('[') {
        true => serde_json::from_str(&name).map_err(|_| WRITE)?,
        false => vec![name],
    };
    if path.is_empty() || path.iter().any(String::is_empty) || field.is_empty() {
        return Err(WRITE.to_owned());
    }
    Ok(ClaimField {
        path,
        field: field.to_owned(),
    })
}
