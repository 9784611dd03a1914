//! Signed cookies that keep who was once in a share in it, also when the share is lowered.
//!
//! A cookie is the name of a key, the second in which it ends, and a signature: HMAC-SHA256 of both, of what it is for (the cookie's name, the type, the
//! salt of the share) and of whose it is: the user, tenant or visitor whose share is taken. So it is of no use to anybody else, for nothing else, and not for
//! longer. One that is forged, of somebody else or too old is as none.

use std::fmt;
use std::rc::Rc;

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use tollgate_common::hashed::{from_hex_digits, to_hex};

/// How many bytes of the signature a cookie has.
const SIGNATURE: usize = 16;

/// A key that cookies are signed with.
#[derive(Clone)]
pub struct Key {
    /// Its name, which cookies carry.
    pub id: String,
    /// The secret itself.
    pub secret: Vec<u8>,
}

impl fmt::Debug for Key {
    // A secret is in no log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({:?})", self.id)
    }
}

/// The cookie of a rule.
#[derive(Clone, Debug)]
pub struct Sticky {
    /// Its name.
    pub cookie: String,
    /// The position of the subject that is this cookie.
    pub subject: usize,
    /// How long it lasts, in seconds.
    pub lifetime: u64,
    /// Whether browsers send it over HTTPS alone.
    pub secure: bool,
    /// What it is for, beside its name: the type and the salt.
    pub purpose: String,
    /// The keys: the first signs, all are known.
    pub keys: Rc<[Key]>,
}

impl Sticky {
    /// When a cookie ends that is valid at this second for this key of a share; `None` if it is not valid.
    pub fn verify(&self, of: &[u8], cookie: &[u8], now: u64) -> Option<u64> {
        let text = std::str::from_utf8(cookie).ok()?;
        let mut parts = text.split('.');
        let (id, end, signature) = (parts.next()?, parts.next()?, parts.next()?);
        let digits = !end.starts_with(['+', '0']);
        let end: u64 = end
            .parse()
            .ok()
            .filter(|_| digits && parts.next().is_none())?;
        let key = self.keys.iter().find(|key| key.id == id)?;
        if end <= now || end > now.saturating_add(self.lifetime) {
            return None;
        }
        let signature = from_hex_digits::<SIGNATURE>(signature)?;
        // In the same time for every wrong signature.
        let signed = self.signed(key, of, end)?.verify_truncated_left(&signature);
        signed.is_ok().then_some(end)
    }

    /// Whether a cookie that ends then is to be made anew.
    pub fn is_due(&self, end: u64, now: u64) -> bool {
        end.saturating_sub(now) < self.lifetime / 2
    }

    /// A `set-cookie` header with a cookie for this key of a share.
    pub fn issue(&self, of: &[u8], now: u64) -> Option<String> {
        let key = self.keys.first()?;
        let end = now.saturating_add(self.lifetime);
        let signature = self.signed(key, of, end)?.finalize().into_bytes();
        let signature = to_hex(signature.get(..SIGNATURE)?);
        let secure = if self.secure { "; Secure" } else { "" };
        Some(format!(
            "{}={}.{end}.{signature}; Max-Age={}; Path=/; HttpOnly; SameSite=Lax{secure}",
            self.cookie, key.id, self.lifetime
        ))
    }

    fn signed(&self, key: &Key, of: &[u8], end: u64) -> Option<Hmac<Sha256>> {
        let mut mac = Hmac::<Sha256>::new_from_slice(&key.secret).ok()?;
        // Only the last may have any bytes, and each of the others is of one form: no two sets of them are the same bytes.
        for part in [
            self.cookie.as_bytes(),
            self.purpose.as_bytes(),
            key.id.as_bytes(),
            &end.to_be_bytes(),
        ] {
            mac.update(part);
            mac.update(&[0]);
        }
        mac.update(of);
        Some(mac)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn key(id: &str, secret: &str) -> Key {
        Key {
            id: id.to_owned(),
            secret: secret.as_bytes().to_vec(),
        }
    }

    fn sticky(keys: &[Key]) -> Sticky {
        Sticky {
            cookie: "beta".to_owned(),
            subject: 0,
            lifetime: 1_000,
            secure: true,
            purpose: "beta\0checkout".to_owned(),
            keys: keys.into(),
        }
    }

    fn cookie(header: &str) -> &[u8] {
        let (_, rest) = header.split_once('=').unwrap();
        rest.split_once(';').unwrap().0.as_bytes()
    }

    #[test]
    fn a_cookie_is_for_one_key_one_purpose_and_a_time() {
        let ours = sticky(&[key("1", "secret of this shop")]);
        let header = ours.issue(b"alice", 100).unwrap();
        let cookie = cookie(&header);
        assert_eq!(
            header,
            format!(
                "beta={}; Max-Age=1000; Path=/; HttpOnly; SameSite=Lax; Secure",
                std::str::from_utf8(cookie).unwrap()
            )
        );
        assert_eq!(ours.verify(b"alice", cookie, 100), Some(1_100));
        assert_eq!(ours.verify(b"alice", cookie, 1_099), Some(1_100));
        assert_eq!(ours.verify(b"alice", cookie, 1_100), None, "over");
        assert_eq!(ours.verify(b"alice", cookie, 99), None, "longer than any");
        assert_eq!(ours.verify(b"bob", cookie, 100), None, "another's");
        let other_purpose = Sticky {
            purpose: "vip\0checkout".to_owned(),
            ..ours.clone()
        };
        assert_eq!(other_purpose.verify(b"alice", cookie, 100), None);
        let other_name = Sticky {
            cookie: "gamma".to_owned(),
            ..ours.clone()
        };
        assert_eq!(other_name.verify(b"alice", cookie, 100), None);
        assert_eq!(
            sticky(&[key("1", "another secret")]).verify(b"alice", cookie, 100),
            None
        );
    }

    #[test]
    fn keys_are_changed_one_after_the_other() {
        let (old, new) = (key("1", "old secret"), key("2", "new secret"));
        let before = sticky(std::slice::from_ref(&old));
        let header = before.issue(b"alice", 0).unwrap();
        let both = sticky(&[new.clone(), old]);
        assert!(both.verify(b"alice", cookie(&header), 0).is_some());
        let renewed = both.issue(b"alice", 0).unwrap();
        let after = sticky(&[new]);
        assert!(after.verify(b"alice", cookie(&renewed), 0).is_some());
        assert!(after.verify(b"alice", cookie(&header), 0).is_none());
    }

    #[test]
    fn a_secret_is_not_shown() {
        assert!(!format!("{:?}", sticky(&[key("1", "hush")])).contains("hush"));
    }

    proptest! {
        #[test]
        fn no_change_of_a_cookie_is_taken(at in 0_usize..64, to in any::<u8>(), cut in 0_usize..64) {
            let sticky = sticky(&[key("1", "secret of this shop")]);
            let header = sticky.issue(b"alice", 100).unwrap();
            let cookie = cookie(&header);
            let mut changed = cookie.to_vec();
            let at = at % changed.len();
            changed[at] = to;
            prop_assert_eq!(sticky.verify(b"alice", &changed, 100).is_some(), changed == cookie);
            prop_assert!(sticky.verify(b"alice", &cookie[..cut % cookie.len()], 100).is_none());
            changed.push(to);
            prop_assert!(sticky.verify(b"alice", &changed, 100).is_none());
        }

        #[test]
        fn no_bytes_make_it_panic(cookie in proptest::collection::vec(any::<u8>(), 0..64), now in any::<u64>()) {
            prop_assert!(sticky(&[key("1", "secret of this shop")]).verify(b"alice", &cookie, now).is_none());
        }
    }
}
