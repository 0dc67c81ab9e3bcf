//! How often inferences are right: traffic as a pooled application makes it, whose truth is known and hidden.

use std::collections::HashMap;

use super::*;

/// Requests of one run.
const REQUESTS: usize = 1_500;
/// Connections of the pool.
const POOL: u64 = 10;
const ROUTES: [&str; 4] = ["GET/orders/{}", "POST/orders/{}/pay", "GET/customers/{}", "POST/orders"];

/// `SplitMix64` (Steele, Lea and Flood, 2014).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }
}

/// Requests, their work, and which request each piece of work really is of.
#[derive(Default)]
struct Traffic {
    requests: Vec<Request>,
    work: Vec<Work>,
    truth: Vec<usize>,
    sent: Vec<Vec<String>>,
    answered: Vec<Vec<String>>,
    carried: Vec<Vec<String>>,
    returned: Vec<Vec<String>>,
}

impl Clues for Traffic {
    fn sent(&self, request: usize) -> Tokens {
        of(&self.sent[request])
    }

    fn answered(&self, request: usize) -> Tokens {
        of(&self.answered[request])
    }

    fn carried(&self, work: usize) -> Tokens {
        of(&self.carried[work])
    }

    fn returned(&self, work: usize) -> Tokens {
        of(&self.returned[work])
    }
}

fn of(values: &[String]) -> Tokens {
    let mut tokens = Tokens::default();
    for value in values {
        tokens.add(value);
    }
    tokens
}

/// About `concurrency` requests in flight at a time. Orders have numbers of three digits, a status of three, an amount of
/// a few; payments fail every fourth time, and then answer nothing that tells.
fn traffic(seed: u64, concurrency: u64) -> Traffic {
    let mut random = Random(seed);
    let mut traffic = Traffic::default();
    let mut free_at: HashMap<u64, i64> = HashMap::new();
    let mut now = 0_i64;
    for index in 0..REQUESTS {
        now += random.below(20_000 / concurrency) as i64;
        let route = random.below(ROUTES.len() as u64) as usize;
        let order = (100 + random.below(300)).to_string();
        let status = ["open", "paid", "cancelled"][random.below(3) as usize].to_owned();
        let amount = ["0.1900", "12.5000", "3.0000"][random.below(3) as usize].to_owned();
        let customer = format!("customer-{}@example.org", random.below(60));
        let failed = route == 1 && random.below(4) == 0;
        let finished = now + 15_000 + random.below(10_000) as i64;
        traffic.requests.push(Request {
            id: RequestId(index as u64 + 1),
            started: Timestamp(now),
            finished: Some(Timestamp(finished)),
            worker_pid: None,
            trace_id: None,
            route: ROUTES[route].to_owned(),
        });
        traffic.sent.push(if route == 3 { vec![customer.clone(), amount.clone()] } else { vec![order.clone()] });
        let row = vec![order.clone(), status, amount.clone(), customer.clone()];
        traffic.answered.push(if failed { Vec::new() } else { row.clone() });
        // One connection for a request, mostly; its transactions one after the other.
        let mut session = random.below(POOL) + 1;
        let mut at = now + 500;
        for step in 0..=random.below(3) {
            if random.below(10) == 0 {
                session = random.below(POOL) + 1;
            }
            at = at.max(free_at.get(&session).copied().unwrap_or(0));
            let until = at + 500 + random.below(3_000) as i64;
            if until >= finished {
                break;
            }
            free_at.insert(session, until + 1);
            traffic.work.push(Work {
                started: Timestamp(at),
                last_started: Timestamp(at),
                finished: Some(Timestamp(until)),
                session: Some(SessionId(session)),
                client_pid: None,
                declared: None,
                shapes: vec![route as u64 * 10 + step],
            });
            traffic.truth.push(index);
            let inserts = route == 3 && step == 0;
            traffic.carried.push(if inserts { vec![customer.clone(), amount.clone()] } else { vec![order.clone()] });
            traffic.returned.push(row.clone());
            at = until + 200;
        }
    }
    traffic
}

/// Inferences, those that named a request with more than 50 % and more than 90 %, and how many of these were right.
#[derive(Debug, Default, Clone, Copy)]
struct Score {
    inferred: usize,
    half: (usize, usize),
    nine_tenths: (usize, usize),
}

fn score(traffic: &Traffic) -> Score {
    let mut score = Score::default();
    let found = attribute(&traffic.requests, &traffic.work, traffic);
    for (found, truth) in found.iter().zip(&traffic.truth) {
        if found.level != Inferred {
            continue;
        }
        score.inferred += 1;
        let right = found.request == Some(traffic.requests[*truth].id);
        for (bound, counted) in [(0.5, &mut score.half), (0.9, &mut score.nine_tenths)] {
            if found.request.is_some() && found.confidence > bound {
                counted.0 += 1;
                counted.1 += usize::from(right);
            }
        }
    }
    score
}

#[test]
fn inferences_are_right_about_as_often_as_they_say() {
    for concurrency in [2, 4, 8] {
        let score = score(&traffic(concurrency, concurrency));
        let share = |(named, right): (usize, usize)| right as f64 / named.max(1) as f64;
        println!(
            "{concurrency} at a time: {} inferred; above 50 %: {} named, {:.1} % right; above 90 %: {} named, {:.1} % right",
            score.inferred,
            score.half.0,
            share(score.half) * 100.0,
            score.nine_tenths.0,
            share(score.nine_tenths) * 100.0
        );
        assert!(score.inferred > 500 && score.nine_tenths.0 > 100, "{score:?}");
        assert!(share(score.half) > 0.75, "{score:?}");
        assert!(share(score.nine_tenths) > 0.9, "{score:?}");
    }
}
