//! `tollgate up --demo`, and what a terminal shows of it.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use tollgate_tests::{LocalMesh, Manifests, Options, Terminal};

use crate::metrics::settled;
use crate::shared::block_on;

type Test = fn() -> Result<()>;

/// These start meshes of their own.
pub(crate) const TESTS: &[(&str, Test)] = &[
    (
        "a_terminal_shows_limits_and_canary_at_work_until_q",
        a_terminal_shows_limits_and_canary_at_work,
    ),
    (
        "ctrl_c_gives_the_terminal_back",
        ctrl_c_gives_the_terminal_back,
    ),
    (
        "for_scripts_the_demo_is_events_and_nothing_else",
        for_scripts_the_demo_is_events,
    ),
];

/// A first start compiles everything.
const START: Duration = Duration::from_secs(900);
/// A new user is to see it within ten seconds; this machine runs other tests as well.
const SEEN: Duration = Duration::from_secs(90);

fn demo() -> Options {
    Options {
        demo: true,
        ..Options::default()
    }
}

fn a_terminal_shows_limits_and_canary_at_work() -> Result<()> {
    let mut terminal = Terminal::up(Manifests::shipped()?, &demo(), 70, 120)?;
    terminal.until("that it is ready", START, |screen| {
        screen.contains("ready.").then_some(())
    })?;
    let begin = Instant::now();
    terminal.until("the demo", SEEN, at_work)?;
    eprintln!("demo: everything is to be seen after {:?}", begin.elapsed());
    ensure!(terminal.hears_keys()?, "the terminal waits for whole lines");
    terminal.press("q")?;
    terminal.ended(0)
}

/// Whether there is everything to be seen: tenants of every tier with what they were given and refused, both versions, times.
fn at_work(screen: &str) -> Option<()> {
    let line = |label: &str| screen.lines().find(|line| line.starts_with(label));
    let number = |word: &str| word.parse::<f64>().ok();
    let positive = |word: &str| number(word).filter(|number| *number > 0.0);

    // The other line about the gateway is of `ready`.
    let gateway = |line: &str| line.starts_with("gateway ") && line.contains("   demo: ");
    screen.lines().find(|line| gateway(line))?;
    // requests  83.4/s   refused 9.8/s   5xx 0.0 %   p50 2.9 ms   p99 31 ms
    let requests: Vec<&str> = line("requests ")?.split_whitespace().collect();
    let behind = |label: &str| {
        let at = requests.iter().position(|word| *word == label)?;
        positive(requests.get(at + 1)?.trim_end_matches("/s"))
    };
    positive(requests.get(1)?.strip_suffix("/s")?)?;
    behind("refused")?;
    let (median, high) = (behind("p50")?, behind("p99")?);
    (median > 0.0 && high > 0.0).then_some(())?;

    // acme      premium       51.0       0.0  ████
    let tenant = |name: &str, of: &str| {
        let mut rows = screen.lines().map(|line| line.split_whitespace().collect());
        rows.find_map(|row: Vec<&str>| match row[..] {
            [tenant, tier, admitted, refused, ..] if tenant == name && tier == of => {
                Some((positive(admitted)?, number(refused)?))
            }
            _ => None,
        })
    };
    let (_, none) = tenant("acme", "premium")?;
    (none == 0.0).then_some(())?;
    tenant("globex", "standard")?;
    tenant("initech", "free")?;
    // The one who wants too much is not listed.
    let (_, refused) = tenant("other", "free")?;
    (refused > 0.0).then_some(())?;

    // versions  product-service   v1 50.2 (80 %)   v2 12.9 (20 %)
    //           user-service   v1 9.5 (95 %)   v2 0.5 (5 %)
    let mut parts = screen
        .lines()
        .map(|line| line.trim_start_matches("versions").trim_start());
    let versions = parts.find_map(|part| part.strip_prefix("product-service "))?;
    let versions: Vec<&str> = versions.split_whitespace().collect();
    let [v1, one, _, _, v2, two, ..] = versions[..] else {
        return None;
    };
    let (one, two) = (positive(one)?, positive(two)?);
    (v1 == "v1" && v2 == "v2" && one > two).then_some(())?;
    line("classes ").filter(|line| line.contains(" vip "))?;
    line("envoys    9 of 9 live")?;
    Some(())
}

fn ctrl_c_gives_the_terminal_back() -> Result<()> {
    // Too narrow for the table of pods and for the view's bars.
    let mut terminal = Terminal::up(Manifests::shipped()?, &Options::default(), 120, 50)?;
    terminal.until("the view", START, |screen| {
        screen.contains("envoys    9 of 9 live").then_some(())
    })?;
    ensure!(terminal.hears_keys()?, "the terminal waits for whole lines");
    // Any other key means nothing.
    terminal.press("x\u{1b}[A\n")?;
    terminal.press("\u{3}")?;
    terminal.ended(0)
}

fn for_scripts_the_demo_is_events() -> Result<()> {
    let mesh = LocalMesh::start(Manifests::shipped()?, demo())?;
    let event = mesh.await_event("demo", SEEN)?;
    let customers = event["customers"].as_str().context("no customers")?;
    ensure!(
        customers.contains("acme (premium)") && event["seconds"].as_u64().is_some(),
        "{event}"
    );
    block_on(async {
        let refused = |m: &tollgate_tests::Metrics| m.sum("shop_refused_total", &[]).min(1);
        settled(&mesh, "ingressgateway", refused, 1).await
    })?;
    let said = mesh.stop()?;
    let over = said.iter().find(|event| event["event"] == "demoOver");
    let answers = &over.context("nothing says what became of the demo")?["answers"];
    for status in ["200", "429"] {
        ensure!(answers[status].as_u64() > Some(0), "{answers}");
    }
    Ok(())
}
