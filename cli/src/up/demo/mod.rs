//! `tollgate up --demo`: customers of the shop, so that limits, classes and versions are seen at work.
//!
//! [`customers`] says who they are and how often each of them comes; here they come. The pace does not depend on the answers: whoever is
//! slow to be answered is not waited for, so a limit or a slow service shows as it would with real customers. What bounds
//! it: the rates together, the requests that may be under way at once (what would be more is left out and counted), and the time.
//! Nothing is tried twice.

mod customers;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Context;
use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderName, HeaderValue};
use reqwest::{Client, RequestBuilder, StatusCode};
use serde::Serialize;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval_at, timeout};
use tollgate_mesh::Mesh;
use tollgate_mesh::model::{Role, Workload};

pub(crate) use customers::{Customer, Plan};

use super::papers::{Papers, USER_HEADER};

/// How long it lasts.
pub(crate) const LENGTH: Duration = Duration::from_secs(10 * 60);

/// Requests that are under way at once.
const AT_ONCE: usize = 32;

/// How long a customer waits for an answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// What became of the requests.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Outcome {
    /// By status.
    pub(crate) answers: BTreeMap<u16, u64>,
    /// Without an answer.
    pub(crate) failed: u64,
    /// Not sent, because too many were under way.
    pub(crate) left_out: u64,
}

/// Whether there is a shop to come to.
pub(crate) fn possible(mesh: &Mesh) -> bool {
    let any = |found: &dyn Fn(&Workload) -> bool| mesh.workloads.iter().any(found);
    any(&|workload| workload.role == Role::Gateway)
        && any(&|workload| workload.app == "product-service")
}

/// The customers, while they come.
#[derive(Debug)]
pub(crate) struct Demo {
    ends: Instant,
    outcome: Arc<Mutex<Outcome>>,
    customers: JoinSet<()>,
}

impl Demo {
    /// Lets them come to this gateway. Must be called within the runtime.
    pub(crate) fn start(gateway: &str, plan: Plan, length: Duration) -> anyhow::Result<Self> {
        // The user's proxy settings are not for this machine.
        let client = Client::builder()
            .no_proxy()
            .pool_max_idle_per_host(AT_ONCE)
            .timeout(PATIENCE);
        let client = client.build().context("cannot make an HTTP client")?;
        let outcome: Arc<Mutex<Outcome>> = Arc::default();
        let under_way = Arc::new(Semaphore::new(AT_ONCE));
        let mut customers = JoinSet::new();
        for (position, customer) in plan.customers.into_iter().enumerate() {
            let visit = Visit {
                client: client.clone(),
                gateway: gateway.to_owned(),
                papers: papers(&plan.papers, &customer, length)?,
                customer,
                outcome: Arc::clone(&outcome),
            };
            // Not all at the same moment.
            let first = tokio::time::Instant::now() + Duration::from_millis(7 * position as u64);
            customers.spawn(come(visit, first, length, Arc::clone(&under_way)));
        }
        Ok(Self {
            ends: Instant::now() + length,
            outcome,
            customers,
        })
    }

    /// When it is over.
    pub(crate) fn ends(&self) -> Instant {
        self.ends
    }

    /// Waits until it is over by itself.
    pub(crate) async fn over(&mut self) {
        while self.customers.join_next().await.is_some() {}
    }

    /// Stops it and says what became of all the requests.
    pub(crate) async fn stop(mut self) -> Outcome {
        self.customers.shutdown().await;
        lock(&self.outcome).clone()
    }
}

/// Comes as often as the customer does, for this long.
async fn come(
    visit: Visit,
    first: tokio::time::Instant,
    length: Duration,
    under_way: Arc<Semaphore>,
) {
    let visit = Arc::new(visit);
    let mut ticks = interval_at(first, Duration::from_secs_f64(1.0 / visit.customer.rate));
    // After a pause of the whole machine there is nothing to catch up with.
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let mut requests = JoinSet::new();
    let visits = async {
        for number in 0_u64.. {
            ticks.tick().await;
            while requests.try_join_next().is_some() {}
            match Arc::clone(&under_way).try_acquire_owned() {
                Ok(permit) => {
                    let visit = Arc::clone(&visit);
                    requests.spawn(async move {
                        visit.request(number).await;
                        drop(permit);
                    });
                }
                Err(_) => lock(&visit.outcome).left_out += 1,
            }
        }
    };
    _ = timeout(length, visits).await;
    // The last ones are answered, or not.
    while requests.join_next().await.is_some() {}
}

/// What the users of a customer show the gateway for so long.
fn papers(
    papers: &Papers,
    customer: &Customer,
    length: Duration,
) -> anyhow::Result<BTreeMap<String, HeaderMap>> {
    let Customer { tenant, users, .. } = customer;
    let of = |user: &String| {
        let mut headers = HeaderMap::new();
        match papers {
            Papers::Headers(name) => {
                headers.insert(HeaderName::try_from(name)?, HeaderValue::try_from(tenant)?);
                headers.insert(USER_HEADER, HeaderValue::try_from(user)?);
            }
            Papers::Token(issuer) => {
                // Envoy's clock is this machine's; the last requests come when the time is over.
                let token = issuer.token(user, tenant, length + PATIENCE * 2)?;
                let value = HeaderValue::try_from(format!("Bearer {token}"))?;
                headers.insert(AUTHORIZATION, value);
            }
        }
        anyhow::Ok((user.clone(), headers))
    };
    users.iter().map(of).collect()
}

/// A customer and where to go.
struct Visit {
    client: Client,
    gateway: String,
    /// What each user shows, by the user's name.
    papers: BTreeMap<String, HeaderMap>,
    customer: Customer,
    outcome: Arc<Mutex<Outcome>>,
}

impl Visit {
    async fn request(&self, number: u64) {
        let gateway = &self.gateway;
        let user = &self.customer.users[number as usize % self.customer.users.len()];
        // Mostly looking, at everything in turn; a look into the cart now and then, and an order of every 50th.
        const PRODUCTS: [&str; 4] = ["beans", "mug", "kettle", "grinder"];
        let product = PRODUCTS[number as usize / 2 % PRODUCTS.len()];
        if self.customer.orders && number % 50 == 10 {
            let item = serde_json::json!({ "productId": product, "quantity": 1 });
            self.send(
                user,
                self.client
                    .post(format!("{gateway}/cart/{user}"))
                    .json(&item),
            )
            .await;
            let order = serde_json::json!({ "userId": user });
            self.send(
                user,
                self.client.post(format!("{gateway}/orders")).json(&order),
            )
            .await;
            self.send(
                user,
                self.client
                    .delete(format!("{gateway}/cart/{user}/{product}")),
            )
            .await;
            return;
        }
        let path = match number % 10 {
            5 if self.customer.orders => format!("cart/{user}"),
            even if even % 2 == 0 => "products".to_owned(),
            _ => format!("products/{product}"),
        };
        self.send(user, self.client.get(format!("{gateway}/{path}")))
            .await;
    }

    async fn send(&self, user: &str, request: RequestBuilder) {
        let request = request.headers(self.papers.get(user).cloned().unwrap_or_default());
        let answered = async {
            let answer = request.send().await?;
            let status = answer.status();
            // The connection is used again only when the answer was read.
            answer.bytes().await?;
            Ok::<StatusCode, reqwest::Error>(status)
        };
        let answered = answered.await;
        let mut outcome = lock(&self.outcome);
        match answered {
            Ok(status) => *outcome.answers.entry(status.as_u16()).or_default() += 1,
            Err(_) => outcome.failed += 1,
        }
    }
}

fn lock(outcome: &Mutex<Outcome>) -> std::sync::MutexGuard<'_, Outcome> {
    outcome.lock().unwrap_or_else(PoisonError::into_inner)
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = |range: std::ops::Range<u16>| {
            self.answers
                .range(range)
                .map(|(_, count)| count)
                .sum::<u64>()
        };
        let refused = self.answers.get(&429).copied().unwrap_or(0);
        let sent = count(0..u16::MAX) + self.failed;
        write!(
            f,
            "{sent} requests: {} answered, {refused} refused with 429",
            count(200..400)
        )?;
        for (number, what) in [
            (count(400..500) - refused, "other 4xx"),
            (count(500..600), "5xx"),
            (self.failed, "without an answer"),
            (self.left_out, "not sent, as too many were under way"),
        ] {
            if number > 0 {
                write!(f, ", {number} {what}")?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    /// Answers every request by its tenant: `full` is refused, of `gone` the connection is closed.
    async fn gateway() -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let mut buffer = [0; 4096];
                    while let Ok(count @ 1..) = stream.read(&mut buffer).await {
                        let request = String::from_utf8_lossy(&buffer[..count]).to_lowercase();
                        let status = match () {
                            () if request.contains("x-tenant-id: full") => "429 Too Many Requests",
                            () if request.contains("x-tenant-id: gone") => return,
                            () => "200 OK",
                        };
                        let answer = format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\n\r\n");
                        stream.write_all(answer.as_bytes()).await.unwrap();
                    }
                });
            }
        });
        format!("http://{address}")
    }

    fn customer(tenant: &str, rate: f64) -> Customer {
        Customer {
            tenant: tenant.to_owned(),
            tier: None,
            users: vec!["carol".to_owned()],
            rate,
            orders: false,
            abuser: false,
        }
    }

    #[tokio::test]
    async fn customers_come_at_their_pace_until_it_is_over_and_everything_is_counted() {
        let plan = Plan {
            papers: Papers::Headers("x-tenant-id".to_owned()),
            customers: vec![
                customer("acme", 50.0),
                customer("full", 20.0),
                customer("gone", 10.0),
            ],
        };
        let mut demo = Demo::start(&gateway().await, plan, Duration::from_millis(500)).unwrap();
        demo.over().await;
        let Outcome {
            answers,
            failed,
            left_out,
        } = demo.stop().await;
        // Never more than the pace; fewer on a machine that is busy.
        let within = |count: u64, most: u64| (1..=most).contains(&count);
        assert!(
            within(answers[&200], 26) && within(answers[&429], 11) && within(failed, 6),
            "{answers:?} {failed}"
        );
        assert_eq!(left_out, 0);
    }

    #[test]
    fn the_summary_names_what_happened_and_nothing_else() {
        let outcome = Outcome {
            answers: BTreeMap::from([(200, 40), (201, 2), (429, 7)]),
            ..Outcome::default()
        };
        assert_eq!(
            outcome.to_string(),
            "49 requests: 42 answered, 7 refused with 429"
        );
        let outcome = Outcome {
            answers: BTreeMap::from([(404, 1), (503, 2)]),
            failed: 3,
            left_out: 4,
        };
        assert_eq!(
            outcome.to_string(),
            "6 requests: 0 answered, 0 refused with 429, 1 other 4xx, 2 5xx, 3 without an answer, 4 not sent, as too many were under way"
        );
    }
}
