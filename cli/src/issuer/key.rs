//! The local issuer's key, what the world may know of it (a JWKS), and the tokens that it signs.
//!
//! ECDSA over P-256 (`ES256`): such a key is made in an instant, a token with it is a third of one of RSA, and it needs nothing that this
//! tool does not have for certificates already: `rcgen` makes the key and its PEM, `ring` signs (a signature of JWS is two numbers
//! behind each other, and not the ASN.1 of certificates). The rest of a token is base64 and dots: no library is needed to write one,
//! and nothing here reads one.

use anyhow::{Context, anyhow};
use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256};
use ring::digest::{SHA256, digest};
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};
use serde::Serialize;
use serde_json::json;

use crate::error::Hint;

/// What the ids of all local keys begin with. 43 characters follow: the key's thumbprint (RFC 7638), so that the id cannot belong to
/// another key, and no other word in a manifest looks like one.
pub(crate) const KEY_ID: &str = "tollgate-local-";

/// A key that signs tokens.
pub(crate) struct Key {
    id: String,
    x: String,
    y: String,
    signing: EcdsaKeyPair,
    random: SystemRandom,
}

/// Not derived: what is private stays out of logs.
impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.id)
    }
}

impl Key {
    /// A new key, as PEM.
    pub(crate) fn generate() -> anyhow::Result<String> {
        let pair = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).context("cannot make a key")?;
        Ok(pair.serialize_pem())
    }

    /// Reads a key.
    pub(crate) fn from_pem(pem: &str) -> anyhow::Result<Self> {
        let pair = KeyPair::from_pem(pem)
            .ok()
            .filter(|pair| pair.algorithm() == &PKCS_ECDSA_P256_SHA256)
            .context("is no private key of the curve P-256 as PEM")
            .hint("remove the file, and a new key is made; tokens of the old one are worth nothing then")?;
        let point = pair.public_key_raw();
        // 4, x, y: the form without compression, which is the one that JWK is near to.
        let (Some(x), Some(y)) = (point.get(1..33), point.get(33..65)) else {
            return Err(anyhow!("has a public key of {} bytes, not 65", point.len()));
        };
        let [x, y] = [x, y].map(|number| BASE64_URL_SAFE_NO_PAD.encode(number));
        let random = SystemRandom::new();
        let signing = EcdsaKeyPair::from_pkcs8(
            &ECDSA_P256_SHA256_FIXED_SIGNING,
            pair.serialized_der(),
            &random,
        )
        .map_err(|error| anyhow!("cannot sign: {error}"))?;
        Ok(Self {
            id: format!("{KEY_ID}{}", thumbprint(&x, &y)),
            x,
            y,
            signing,
            random,
        })
    }

    /// Its name in tokens and in the JWKS.
    pub(crate) fn id(&self) -> &str {
        &self.id
    }

    /// The public key's first number as a JWK has it: what tells the key under whatever id.
    pub(crate) fn x(&self) -> &str {
        &self.x
    }

    /// What verifies its tokens, in one line.
    pub(crate) fn jwks(&self) -> String {
        let Self { id, x, y, .. } = self;
        // In the order in which people look for it.
        format!(
            r#"{{"keys":[{{"kid":"{id}","kty":"EC","crv":"P-256","alg":"ES256","use":"sig","x":"{x}","y":"{y}"}}]}}"#
        )
    }

    /// The token that says this.
    pub(crate) fn sign(&self, claims: &impl Serialize) -> anyhow::Result<String> {
        let header = json!({"alg": "ES256", "typ": "JWT", "kid": self.id});
        let part = |value: Vec<u8>| BASE64_URL_SAFE_NO_PAD.encode(value);
        let mut token = part(serde_json::to_vec(&header)?);
        token.push('.');
        token += &part(serde_json::to_vec(claims)?);
        let signature = self
            .signing
            .sign(&self.random, token.as_bytes())
            .map_err(|error| anyhow!("cannot sign a token: {error}"))?;
        token.push('.');
        BASE64_URL_SAFE_NO_PAD.encode_string(signature, &mut token);
        Ok(token)
    }
}

/// Of a public key, as RFC 7638 has it: which fields, and their order.
fn thumbprint(x: &str, y: &str) -> String {
    let jwk = format!(r#"{{"crv":"P-256","kty":"EC","x":"{x}","y":"{y}"}}"#);
    BASE64_URL_SAFE_NO_PAD.encode(digest(&SHA256, jwk.as_bytes()))
}

#[cfg(test)]
mod tests {
    use p256::ecdsa::signature::Verifier;
    use p256::ecdsa::{Signature, VerifyingKey};
    use serde_json::Value;

    use super::*;

    fn key() -> Key {
        Key::from_pem(&Key::generate().unwrap()).unwrap()
    }

    fn decoded(part: &str) -> Vec<u8> {
        BASE64_URL_SAFE_NO_PAD.decode(part).unwrap()
    }

    /// What a token says, if a key of this JWKS has signed it: by another implementation of the curve than the one that signs.
    fn verified(jwks: &str, token: &str) -> Option<Value> {
        let jwks: Value = serde_json::from_str(jwks).unwrap();
        let parts: Vec<&str> = token.split('.').collect();
        let [header, claims, signature] = parts[..] else {
            panic!("{token} does not have three parts");
        };
        let header: Value = serde_json::from_slice(&decoded(header)).unwrap();
        let key = jwks["keys"]
            .as_array()
            .unwrap()
            .iter()
            .find(|key| key["kid"] == header["kid"])?;
        for (field, value) in [("kty", "EC"), ("crv", "P-256"), ("use", "sig")] {
            assert_eq!(key[field], value);
        }
        assert_eq!(
            (&header["alg"], &header["typ"]),
            (&key["alg"], &json!("JWT"))
        );
        let number = |name: &str| decoded(key[name].as_str().unwrap());
        let point = [vec![4], number("x"), number("y")].concat();
        let signed = &token[..token.rfind('.').unwrap()];
        VerifyingKey::from_sec1_bytes(&point)
            .unwrap()
            .verify(
                signed.as_bytes(),
                &Signature::from_slice(&decoded(signature)).unwrap(),
            )
            .ok()?;
        Some(serde_json::from_slice(&decoded(claims)).unwrap())
    }

    #[test]
    fn what_it_signs_is_verified_by_its_jwks_and_by_no_other() {
        let (key, other) = (key(), key());
        let claims = json!({"sub": "alice", "nested": {"é": [1, null, "\u{1f600}"]}});
        let token = key.sign(&claims).unwrap();
        assert_eq!(verified(&key.jwks(), &token), Some(claims.clone()));
        assert_eq!(verified(&other.jwks(), &token), None);
        // Under the same id, too.
        let forged = other.jwks().replace(other.id(), key.id());
        assert_eq!(verified(&forged, &token), None);
        // And not with other words.
        let more = BASE64_URL_SAFE_NO_PAD.encode(r#"{"sub":"bob"}"#);
        let parts: Vec<&str> = token.split('.').collect();
        let changed = [parts[0], &more, parts[2]].join(".");
        assert_eq!(verified(&key.jwks(), &changed), None);
    }

    #[test]
    fn a_key_is_the_same_whenever_it_is_read_and_its_id_is_its_thumbprint() {
        let pem = Key::generate().unwrap();
        let (once, again) = (Key::from_pem(&pem).unwrap(), Key::from_pem(&pem).unwrap());
        assert_eq!(once.jwks(), again.jwks());
        assert_ne!(once.id(), key().id());
        // The key of RFC 7517, A.1; by OpenSSL's SHA-256.
        assert_eq!(
            thumbprint(
                "MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4",
                "4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM"
            ),
            "cn-I_WNMClehiVp51i_0VpOENW1upEerA8sEam5hn-s"
        );
        assert!(once.id().starts_with(KEY_ID) && once.id().len() == KEY_ID.len() + 43);
    }

    #[test]
    fn what_is_no_such_key_is_refused_with_what_to_do() {
        let rsa_or_worse = [
            "",
            "key",
            "-----BEGIN PRIVATE KEY-----\nMA==\n-----END PRIVATE KEY-----\n",
        ];
        let p384 = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384).unwrap();
        for pem in rsa_or_worse
            .into_iter()
            .chain([p384.serialize_pem().as_str()])
        {
            assert_eq!(
                crate::error::render(&Key::from_pem(pem).unwrap_err()),
                "error: is no private key of the curve P-256 as PEM\nhint: remove the file, and a new key is made; tokens of the old \
                 one are worth nothing then\n"
            );
        }
    }
}
