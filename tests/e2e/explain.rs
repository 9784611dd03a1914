//! Why a request is what it is: told by the proxy to callers who may ask, and to nobody else.

use anyhow::{Context, Result, ensure};
use reqwest::header::HeaderMap;
use serde_json::json;
use tollgate_tests::{Form, LocalMesh, Manifests, Target};

use crate::vouched::token;

const HEADER: &str = "x-explain-user-type";

/// Lets the gateway's classifier, as it ships, explain itself to the group `platform`.
pub(crate) fn configure(manifests: &Manifests, form: Form) -> Result<()> {
    let (file, indent) = match form {
        Form::ThreeModules => ("wasm-plugins/user-classifier/plugin.yaml", "    "),
        Form::Bundle => ("wasm-plugins/tollgate/plugin.yaml", "      "),
    };
    // That of sidecars, which the bundle has in the same file, has no default.
    let of_classifier = format!("{indent}header: user-type\n{indent}default:");
    let explain = r#"explain: {when: {claim: {name: groups, contains: {exact: platform}}}}"#;
    manifests.replace(
        file,
        &of_classifier,
        &format!("{indent}{explain}\n{of_classifier}"),
    )
}

/// What an answer says in the header.
fn told(headers: &HeaderMap) -> Result<Option<&str>> {
    let all: Vec<_> = headers.get_all(HEADER).iter().collect();
    ensure!(all.len() <= 1, "{all:?}");
    Ok(all.first().map(|one| one.to_str()).transpose()?)
}

pub(crate) async fn who_may_ask_is_told_why_and_nobody_else_anything(
    mesh: &LocalMesh,
) -> Result<()> {
    let client = reqwest::Client::builder().no_proxy().build()?;
    let url = format!("{}/users/alice", mesh.gateway());
    let ask = async |token: Option<&str>, headers: &[(&str, &str)]| {
        let mut request = client.get(&url);
        if let Some(token) = token {
            request = request.bearer_auth(token);
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let answer = request.send().await?;
        if answer.status() == 200 {
            // Whoever asks: no service hears of it.
            let arrived = answer.headers().get("x-headers");
            let arrived = arrived.with_context(|| format!("{answer:?}"))?.to_str()?;
            ensure!(!arrived.contains("explain"), "{arrived}");
        }
        anyhow::Ok(answer)
    };
    let platform = json!(["dev", "platform"]);
    let of_alice = token(&json!({"tenant": "by-claim", "groups": platform}))?;
    let of_carol = token(&json!({"tenant": "by-claim", "groups": platform, "sub": "carol"}))?;
    let why = "rules[0] vip: + claim sub is one of 2 values: a text";
    let not = "rules[1] premium: - tier is \"premium\": \"all\" | rules[0] vip: - claim sub is one of 2 values: a text";
    for (token, expected) in [
        (&of_alice, format!("vip (rules[0] holds) | {why}")),
        (&of_carol, format!("standard (no rule holds) | {not}")),
    ] {
        for value in ["1", "", "user-type", "vip (forged)"] {
            let answer = ask(Some(token), &[(HEADER, value), (HEADER, "2")]).await?;
            ensure!(answer.status() == 200, "{answer:?}");
            ensure!(
                told(answer.headers())? == Some(expected.as_str()),
                "{answer:?}"
            );
        }
    }

    // What is in the request does not get out of line.
    let odd = json!({"tenant": "by-claim", "groups": platform, "sub": "a\r\nset-cookie: x=y"});
    let answer = ask(Some(&token(&odd)?), &[(HEADER, "1"), ("x-odd", "\u{e9}")]).await?;
    ensure!(!answer.headers().contains_key("set-cookie"), "{answer:?}");

    let asks = [(HEADER, "1")];
    let others = json!({"tenant": "by-claim", "groups": ["dev"]});
    let text = json!({"tenant": "by-claim", "groups": "platform"});
    let (others, text) = (token(&others)?, token(&text)?);
    for (token, headers) in [
        // Who may, and does not ask; also not in another spelling.
        (Some(&of_alice), &[][..]),
        (Some(&of_alice), &[("x_explain_user_type", "1")]),
        // Who may not.
        (Some(&others), &asks),
        (Some(&text), &asks),
        (None, &[(HEADER, "1"), ("groups", "platform")]),
    ] {
        let answer = ask(token.map(String::as_str), headers).await?;
        ensure!(answer.status() == 200, "{answer:?}");
        // Not what the service says in the classifier's name either.
        ensure!(told(answer.headers())?.is_none(), "{headers:?}: {answer:?}");
    }

    // A token that nobody signed says nothing of who asks.
    let (signed, _) = of_alice.rsplit_once('.').context("a signature")?;
    let (_, payload) = signed.split_once('.').context("a payload")?;
    for forged in [
        format!("{signed}.AAAA"),
        format!("{signed}."),
        // {"alg":"none"}
        format!("eyJhbGciOiJub25lIn0.{payload}."),
    ] {
        let answer = ask(Some(&forged), &asks).await?;
        ensure!(answer.status() == 401, "{answer:?}");
        ensure!(told(answer.headers())?.is_none(), "{answer:?}");
    }
    Ok(())
}
