//! Tokens: those that `tollgate token` prints, and those that somebody else has made, with another implementation of JSON Web Tokens than the
//! tool's.

use std::fs;
use std::process::Command;
use std::time::SystemTime;

use anyhow::{Context, Result, ensure};
use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use p256::ecdsa::signature::Signer as _;
use p256::ecdsa::{Signature, SigningKey};
use p256::pkcs8::DecodePrivateKey;
use serde_json::{Value, json};

use crate::local::tollgate;
use crate::manifests::Manifests;

/// The overlay with the local issuer, as a test names it.
pub const LOCAL: &str = "istio/overlays/local";

/// The local issuer by itself, beside any other mesh.
pub const ISSUER: &str = "istio/overlays/local/issuer";

/// A token of the local issuer of these manifests, as a user gets one: `tollgate token` with these arguments.
pub fn token(manifests: &Manifests, args: &[&str]) -> Result<String> {
    let output = Command::new(tollgate()?)
        .arg("token")
        .args(args)
        .arg("--overlay")
        .arg(manifests.file(LOCAL))
        .output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "tollgate token failed: {said}");
    Ok(String::from_utf8(output.stdout)?.trim_end().to_owned())
}

/// What a local token says that is valid now.
pub fn claims(user: &str) -> Value {
    let mut claims = nobodys_claims();
    claims["sub"] = user.into();
    claims
}

/// The same without a user.
fn nobodys_claims() -> Value {
    let now = SystemTime::UNIX_EPOCH
        .elapsed()
        .map_or(0, |elapsed| elapsed.as_secs());
    json!({"iss": "https://issuer.local.tollgate", "aud": "shop", "iat": now, "exp": now + 3600})
}

/// Somebody who signs tokens.
#[derive(Debug)]
pub struct Signer {
    key: SigningKey,
    /// What its tokens call the key.
    pub id: String,
}

impl Signer {
    /// The local issuer of these manifests itself: what it signs is genuine, and says what `tollgate token` would not.
    pub fn local(manifests: &Manifests) -> Result<Self> {
        // First of all: it makes the key, if nothing has needed it yet.
        let genuine = token(manifests, &["--user", "nobody"])?;
        let file = manifests.file(ISSUER).join("key.pem");
        let pem = fs::read_to_string(&file).with_context(|| file.display().to_string())?;
        let header = genuine.split('.').next().unwrap_or_default();
        let header: Value = serde_json::from_slice(&BASE64_URL_SAFE_NO_PAD.decode(header)?)?;
        Ok(Self {
            key: SigningKey::from_pkcs8_pem(&pem)?,
            id: header["kid"].as_str().context("no kid")?.to_owned(),
        })
    }

    /// Somebody else, who calls his key like this.
    pub fn stranger(id: &str) -> Result<Self> {
        Self::another(id, 7)
    }

    /// Somebody else yet for each number, 1 to 255.
    pub fn another(id: &str, number: u8) -> Result<Self> {
        Ok(Self {
            key: SigningKey::from_slice(&[number; 32])?,
            id: id.to_owned(),
        })
    }

    /// The public key as a point: 4, x, y.
    pub fn point(&self) -> Vec<u8> {
        self.key
            .verifying_key()
            .to_sec1_point(false)
            .as_bytes()
            .to_vec()
    }

    /// A token that says this, and beside it that it is from the local issuer, for the shop and valid now.
    pub fn sign_valid(&self, others: &Value) -> String {
        let mut claims = nobodys_claims();
        if let (Some(claims), Value::Object(others)) = (claims.as_object_mut(), others) {
            claims.extend(others.clone());
        }
        self.sign(&claims)
    }

    /// Its public key, as a RequestAuthentication has it.
    pub fn jwks(&self) -> Result<String> {
        let point = self.key.verifying_key().to_sec1_point(false);
        let [x, y] = [point.x(), point.y()].map(|part| Some(BASE64_URL_SAFE_NO_PAD.encode(part?)));
        let (x, y) = x.zip(y).context("the key is no point of the curve")?;
        let key = json!({"kty": "EC", "crv": "P-256", "x": x, "y": y, "kid": self.id});
        Ok(json!({ "keys": [key] }).to_string())
    }

    /// A token with the usual header.
    pub fn sign(&self, claims: &Value) -> String {
        self.sign_with(
            &json!({"alg": "ES256", "typ": "JWT", "kid": self.id}),
            claims,
        )
    }

    /// A token with this header, signed with ES256 whatever the header says.
    pub fn sign_with(&self, header: &Value, claims: &Value) -> String {
        let signed = [encode(header), encode(claims)].join(".");
        let signature: Signature = self.key.sign(signed.as_bytes());
        let signature = BASE64_URL_SAFE_NO_PAD.encode(signature.to_bytes());
        [signed, signature].join(".")
    }
}

/// A part of a token.
pub fn encode(value: &Value) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(value.to_string())
}
