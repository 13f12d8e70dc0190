//! Holders on a store of leases in memory that fails as a test says; time is paused.

use std::collections::VecDeque;
use std::future::pending;
use std::sync::Mutex;
use std::time::UNIX_EPOCH;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;

use super::*;
use crate::telemetry::metrics::Metrics;

const LEASE: Duration = Duration::from_secs(15);

/// How long a lease is to be seen unchanged.
const PATIENCE: Duration = Duration::from_millis(16_500);

/// What the next call does.
#[derive(Debug, Clone, Copy)]
enum Fault {
    None,
    /// It fails, and nothing was done.
    Refused,
    /// It is done, and no answer comes.
    Unanswered,
}

#[derive(Default)]
struct Leases {
    lease: Mutex<Option<SeenLease>>,
    faults: Mutex<VecDeque<Fault>>,
    is_down: Mutex<bool>,
}

impl Leases {
    fn now(&self) -> Option<SeenLease> {
        self.lease.lock().unwrap().clone()
    }

    fn answer<'a, T: Send + 'a>(
        &'a self,
        decide: impl FnOnce(&mut Option<SeenLease>) -> T,
    ) -> BoxFuture<'a, Result<T, LeaseError>> {
        let fault = self.faults.lock().unwrap().pop_front();
        if *self.is_down.lock().unwrap() || matches!(fault, Some(Fault::Refused)) {
            return std::future::ready(Err(LeaseError::Store("down".to_owned()))).boxed();
        }
        let decided = decide(&mut self.lease.lock().unwrap());
        match fault {
            Some(Fault::Unanswered) => pending().boxed(),
            _ => std::future::ready(Ok(decided)).boxed(),
        }
    }

    fn change<'a>(&'a self, lease: &HeldLease, owner: Option<String>) -> BoxFuture<'a, Result<(), LeaseError>> {
        let lease = lease.clone();
        let changed = self.answer(move |stored| match stored {
            Some(it) if it.epoch == lease.epoch && it.owner.as_deref() == Some(&*lease.owner) => {
                (it.owner, it.version) = (owner, it.version + 1);
                Ok(())
            }
            _ => Err(LeaseError::Lost),
        });
        changed.map(|changed| changed?).boxed()
    }
}

impl LeaseStore for Leases {
    fn look<'a>(&'a self, _: &'a str) -> BoxFuture<'a, Result<Option<SeenLease>, LeaseError>> {
        self.answer(|lease| lease.clone())
    }

    fn claim<'a>(
        &'a self,
        _: &'a str,
        seen: Option<&'a SeenLease>,
        above: u64,
        owner: &'a str,
        duration: Duration,
    ) -> BoxFuture<'a, Result<HeldLease, LeaseError>> {
        let claimed = self.answer(|lease| {
            if lease.as_ref() != seen {
                return Err(LeaseError::Lost);
            }
            let epoch = seen.map_or(0, |seen| seen.epoch).max(above) + 1;
            let version = seen.map_or(0, |seen| seen.version) + 1;
            *lease = Some(SeenLease { owner: Some(owner.to_owned()), epoch, version, duration });
            Ok(HeldLease { owner: owner.to_owned(), epoch, duration })
        });
        claimed.map(|claimed| claimed?).boxed()
    }

    fn renew<'a>(&'a self, _: &'a str, lease: &'a HeldLease) -> BoxFuture<'a, Result<(), LeaseError>> {
        self.change(lease, Some(lease.owner.clone()))
    }

    fn release<'a>(&'a self, _: &'a str, lease: &'a HeldLease) -> BoxFuture<'a, Result<(), LeaseError>> {
        self.change(lease, None)
    }
}

fn holder(leases: &Arc<Leases>, owner: &str) -> LeaseHolder {
    let metrics = Metrics::new("t", "t").unwrap();
    LeaseHolder::new(leases.clone(), "Orders", owner, LEASE, TableTelemetry::new("Orders", &metrics))
}

/// Time and wall time go together.
fn simulated() -> clock::SimulatedClock {
    clock::start_at(UNIX_EPOCH + Duration::from_secs(1_767_323_045))
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_is_new_or_was_given_back_is_claimed_at_once() {
    let _clock = simulated();
    let leases = Arc::new(Leases::default());
    let (mut first, mut second) = (holder(&leases, "a"), holder(&leases, "b"));
    let begun = Instant::now();
    let granted = first.acquire().await;
    assert_eq!((granted.lease.epoch, begun.elapsed()), (1, Duration::ZERO));
    assert!(first.release(&granted).await);
    let granted = second.acquire().await;
    assert_eq!((granted.lease.epoch, begun.elapsed()), (2, Duration::ZERO));
    let text = second.telemetry.metrics().lease_changes.with_label_values(&["Orders", "received"]).get();
    assert_eq!(text, 1);
}

#[tokio::test(start_paused = true)]
async fn a_lease_is_taken_over_once_it_was_unchanged_for_longer_than_it_lasts_and_not_before() {
    let _clock = simulated();
    let leases = Arc::new(Leases::default());
    let (mut first, mut second) = (holder(&leases, "a"), holder(&leases, "b"));
    let granted = first.acquire().await;
    let keep = timeout(Duration::from_secs(60), first.keep(&granted));
    let begun = Instant::now();
    let (kept, taken) = tokio::join!(keep, second.acquire());
    assert!(kept.is_err(), "the first owner renews for as long as it runs");
    assert_eq!(taken.lease.epoch, 2);
    // The last renewal was at 60 s or a little before.
    let waited = begun.elapsed() - Duration::from_secs(60);
    assert!(waited >= LEASE && waited < PATIENCE + 2 * LOOK_INTERVAL, "{waited:?}");
    assert!(!granted.tenure.lasts(Instant::now(), clock::now()), "the first owner's time is over");
}

#[tokio::test(start_paused = true)]
async fn a_process_that_was_killed_keeps_others_out_for_one_lease() {
    let _clock = simulated();
    let leases = Arc::new(Leases::default());
    let (mut first, mut second) = (holder(&leases, "a"), holder(&leases, "b"));
    drop(first.acquire().await);
    let (begun, mut view) = (Instant::now(), second.view());
    let granted = second.acquire().await;
    let waited = begun.elapsed();
    assert!(waited > PATIENCE && waited <= PATIENCE + LOOK_INTERVAL, "{waited:?}");
    assert_eq!(*view.borrow_and_update(), LeaseView::Held { owner: "b".to_owned() });
    assert_eq!(granted.lease.epoch, 2);
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_vanished_counts_as_unchanged_for_who_has_seen_it() {
    let _clock = simulated();
    let leases = Arc::new(Leases::default());
    let (mut first, mut second) = (holder(&leases, "a"), holder(&leases, "b"));
    let _granted = first.acquire().await;
    let begun = Instant::now();
    let made_anew = async {
        sleep(Duration::from_secs(2)).await;
        *leases.lease.lock().unwrap() = None;
    };
    let (granted, ()) = tokio::join!(second.acquire(), made_anew);
    assert!(begun.elapsed() > PATIENCE, "{:?}", begun.elapsed());
    assert_eq!(granted.lease.epoch, 2, "above all epochs that were seen");
}

#[tokio::test(start_paused = true)]
async fn an_owner_whose_lease_is_over_claims_its_own_lease_again_at_once() {
    let _clock = simulated();
    let leases = Arc::new(Leases::default());
    let mut first = holder(&leases, "a");
    let granted = first.acquire().await;
    granted.tenure.end();
    assert_eq!(first.keep(&granted).await, TenureEnd::GivenUp);
    let begun = Instant::now();
    assert_eq!((first.acquire().await.lease.epoch, begun.elapsed()), (2, Duration::ZERO));
}

#[tokio::test(start_paused = true)]
async fn a_store_that_is_away_for_less_than_a_lease_ends_no_tenure() {
    let _clock = simulated();
    let leases = Arc::new(Leases::default());
    let mut first = holder(&leases, "a");
    let granted = first.acquire().await;
    let outage = async {
        sleep(Duration::from_secs(2)).await;
        *leases.is_down.lock().unwrap() = true;
        sleep(Duration::from_secs(12)).await;
        *leases.is_down.lock().unwrap() = false;
        sleep(Duration::from_secs(100)).await;
    };
    select! {
        end = first.keep(&granted) => panic!("{end}"),
        () = outage => {}
    }
    assert!(granted.tenure.lasts(Instant::now(), clock::now()));
}

#[tokio::test(start_paused = true)]
async fn a_store_that_is_away_for_longer_ends_the_tenure_at_the_leases_end_and_says_why() {
    let _clock = simulated();
    let leases = Arc::new(Leases::default());
    let mut first = holder(&leases, "a");
    let granted = first.acquire().await;
    let begun = Instant::now();
    *leases.is_down.lock().unwrap() = true;
    let end = first.keep(&granted).await;
    assert_eq!(end, TenureEnd::Expired { error: Some("down".to_owned()) });
    assert_eq!(begun.elapsed(), LEASE);
    assert!(granted.tenure.over().is_cancelled());
}

#[tokio::test(start_paused = true)]
async fn a_renewal_without_an_answer_is_made_again_in_time() {
    let _clock = simulated();
    let leases = Arc::new(Leases::default());
    let mut first = holder(&leases, "a");
    let granted = first.acquire().await;
    leases.faults.lock().unwrap().extend([Fault::Unanswered, Fault::Refused]);
    select! {
        end = first.keep(&granted) => panic!("{end}"),
        () = sleep(Duration::from_secs(40)) => {}
    }
    assert!(granted.tenure.lasts(Instant::now(), clock::now()));
}

#[tokio::test(start_paused = true)]
async fn an_owner_that_lost_its_lease_notices_at_the_next_renewal() {
    let _clock = simulated();
    let leases = Arc::new(Leases::default());
    let mut first = holder(&leases, "a");
    let granted = first.acquire().await;
    leases.lease.lock().unwrap().as_mut().unwrap().owner = Some("b".to_owned());
    let begun = Instant::now();
    assert_eq!(first.keep(&granted).await, TenureEnd::Lost);
    assert_eq!(begun.elapsed(), LEASE / 3);
    assert!(!first.release(&granted).await, "what is another's is not given back");
    assert_eq!(leases.now().unwrap().owner.as_deref(), Some("b"));
}

#[tokio::test(start_paused = true)]
async fn a_claim_without_an_answer_is_made_anew_under_a_higher_epoch() {
    let _clock = simulated();
    let leases = Arc::new(Leases::default());
    let mut first = holder(&leases, "a");
    // Of the look nothing is wrong; the claim is done and not answered.
    leases.faults.lock().unwrap().extend([Fault::None, Fault::Unanswered]);
    let begun = Instant::now();
    let granted = first.acquire().await;
    assert_eq!(granted.lease.epoch, 2);
    let slack = begun.elapsed() - LEASE;
    assert!(
        slack < LOOK_PAUSE_MIN,
        "the tenure counts from the second claim, {slack:?} after the first one was given up"
    );
    assert_eq!(granted.tenure.ends_at(), Instant::now() + LEASE);
}

/// It was told to stop just when it claimed.
#[tokio::test(start_paused = true)]
async fn who_waits_no_longer_gives_back_what_it_was_granted_without_an_answer_and_nothing_else() {
    let _clock = simulated();
    let leases = Arc::new(Leases::default());
    let (mut first, mut second) = (holder(&leases, "a"), holder(&leases, "b"));
    leases.faults.lock().unwrap().extend([Fault::None, Fault::Unanswered]);
    assert!(timeout(Duration::from_secs(1), first.acquire()).await.is_err());
    assert_eq!(leases.now().unwrap().owner.as_deref(), Some("a"));
    assert!(timeout(Duration::from_secs(1), second.acquire()).await.is_err());
    second.give_up().await;
    assert_eq!(leases.now().unwrap().owner.as_deref(), Some("a"));
    first.give_up().await;
    assert_eq!(leases.now().unwrap().owner, None, "the next one waits for a lease that nobody has");
}

#[test]
fn names_of_two_runs_differ() {
    assert_ne!(owner_name("pod"), owner_name("pod"));
    assert!(owner_name("pod").starts_with("pod "));
}

/// While the store did not answer, its owner may have renewed it again and again.
#[test]
fn a_lease_that_is_gone_after_a_long_silence_of_the_store_is_waited_for_from_then_on() {
    let (mut watch, begun) = (LeaseWatch::default(), Instant::now());
    let lease = SeenLease { owner: Some("a".to_owned()), epoch: 7, version: 1, duration: LEASE };
    let waits = |turn: Turn| matches!(turn, Turn::Wait { .. });
    assert!(waits(watch.look(Some(lease.clone()), "b", begun)));
    let found_gone = begun + 10 * LEASE;
    assert!(waits(watch.look(None, "b", found_gone)), "claimed while its owner may deliver");
    assert!(waits(watch.look(None, "b", found_gone + PATIENCE)));
    assert_eq!(watch.look(None, "b", found_gone + PATIENCE + Duration::from_millis(1)), Turn::Claim);
    let mut other = LeaseWatch::default();
    assert!(waits(other.look(Some(lease.clone()), "b", begun)));
    assert_eq!(other.look(Some(lease), "b", begun + 10 * LEASE), Turn::Claim, "nobody has renewed it");
}
