use super::super::scripted::{Fate, Scripted, key, names};
use super::super::single_flight::ABSENT;
use super::*;

fn entry(name: &str) -> Subject {
    Subject::Entry(key(name))
}

async fn bring(dispatcher: &Arc<Dispatcher<Scripted>>, subject: Subject) -> (Landing, How) {
    dispatcher.bring(subject, &names(), Urgency::Demand, "").await
}

/// Lets everything that can go on go on.
async fn settle() {
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test(start_paused = true)]
async fn many_ask_and_the_remote_is_asked_once() {
    let backend = Scripted::gated(0);
    backend.arrange(entry("a"), Fate::Fetched(Fetched::New { bytes: 1 }));
    let dispatcher = Dispatcher::new(Arc::clone(&backend), 8);
    let asking = (0..50).map(|_| {
        let dispatcher = Arc::clone(&dispatcher);
        tokio::spawn(async move { bring(&dispatcher, entry("a")).await })
    });
    let asking: Vec<_> = asking.collect();
    settle().await;
    assert!(dispatcher.is_busy());
    backend.gate.add_permits(1);
    let mut shared = 0;
    for asker in asking {
        let (landing, how) = asker.await.expect("no panic");
        assert_eq!(landing, Landing::Arrived);
        shared += usize::from(how == How::Shared);
    }
    assert_eq!((backend.times_asked(), shared), (1, 49));
    assert!(!dispatcher.is_busy());
}

#[tokio::test(start_paused = true)]
async fn what_is_absent_is_remembered_for_a_while() {
    let backend = Scripted::new();
    let dispatcher = Dispatcher::new(Arc::clone(&backend), 8);
    assert_eq!(bring(&dispatcher, entry("a")).await, (Landing::Absent, How::Asked));
    assert_eq!(bring(&dispatcher, entry("a")).await, (Landing::Absent, How::Remembered));
    assert_eq!(bring(&dispatcher, entry("b")).await, (Landing::Absent, How::Asked));
    tokio::time::advance(ABSENT).await;
    assert_eq!(bring(&dispatcher, entry("a")).await, (Landing::Absent, How::Asked));
    assert_eq!(backend.times_asked(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_remote_that_fails_is_left_alone_and_found_well_again() {
    let backend = Scripted::new();
    let dispatcher = Dispatcher::new(Arc::clone(&backend), 8);
    for i in 0..20 {
        let subject = entry(&i.to_string());
        backend.arrange(subject, Fate::Trouble(Blame::Remote));
        let (landing, _) = bring(&dispatcher, subject).await;
        assert_eq!(landing, if i < 3 { Landing::Failed } else { Landing::Sick }, "{i}");
    }
    assert_eq!(backend.times_asked(), 3);
    assert!(dispatcher.traffic().sickness().is_some());
    tokio::time::advance(Duration::from_secs(11)).await;
    assert_eq!(bring(&dispatcher, entry("x")).await, (Landing::Absent, How::Asked));
    assert!(dispatcher.traffic().sickness().is_none());
}

#[tokio::test(start_paused = true)]
async fn a_lying_object_is_its_own_fault_and_not_asked_for_again() {
    let backend = Scripted::new();
    let dispatcher = Dispatcher::new(Arc::clone(&backend), 8);
    for i in 0..20 {
        let subject = entry(&i.to_string());
        backend.arrange(subject, Fate::Trouble(Blame::Object));
        assert_eq!(bring(&dispatcher, subject).await, (Landing::Absent, How::Asked));
        assert_eq!(bring(&dispatcher, subject).await, (Landing::Absent, How::Remembered));
    }
    assert!(dispatcher.traffic().sickness().is_none());
}

#[tokio::test(start_paused = true)]
async fn what_is_brought_ahead_leaves_room_for_what_is_waited_for() {
    let backend = Scripted::gated(0);
    let dispatcher = Dispatcher::new(Arc::clone(&backend), 4);
    for i in 0..20 {
        let (dispatcher, subject) = (Arc::clone(&dispatcher), entry(&i.to_string()));
        tokio::spawn(async move { dispatcher.bring(subject, &names(), Urgency::Ahead, "").await });
    }
    settle().await;
    assert_eq!(backend.times_asked(), 3, "three of four slots");
    let waiting = {
        let dispatcher = Arc::clone(&dispatcher);
        // Wanted ahead, too, but its turn is far off.
        tokio::spawn(async move { bring(&dispatcher, entry("19")).await })
    };
    settle().await;
    assert_eq!(backend.asked.lock().expect("lock").last(), Some(&entry("19")));
    backend.gate.add_permits(100);
    assert_eq!(waiting.await.expect("no panic"), (Landing::Absent, How::Asked));
    settle().await;
    assert_eq!(backend.times_asked(), 20, "what the build had asked for isn't brought twice");
}

#[tokio::test(start_paused = true)]
async fn a_transfer_outlives_whoever_asked_and_survives_a_panic() {
    let backend = Scripted::gated(0);
    backend.arrange(entry("a"), Fate::Fetched(Fetched::New { bytes: 1 }));
    backend.arrange(entry("b"), Fate::Panic);
    let dispatcher = Dispatcher::new(Arc::clone(&backend), 8);
    let asker = {
        let dispatcher = Arc::clone(&dispatcher);
        tokio::spawn(async move { bring(&dispatcher, entry("a")).await })
    };
    settle().await;
    asker.abort();
    backend.gate.add_permits(100);
    assert_eq!(bring(&dispatcher, entry("a")).await, (Landing::Arrived, How::Shared));
    assert_eq!(bring(&dispatcher, entry("b")).await.0, Landing::Failed);
    assert!(!dispatcher.is_busy());
    assert_eq!(bring(&dispatcher, entry("c")).await.0, Landing::Absent, "others are not concerned");
}

#[tokio::test(start_paused = true)]
async fn a_transfer_that_never_ends_is_given_up() {
    let backend = Scripted::gated(0);
    let dispatcher = Dispatcher::new(Arc::clone(&backend), 8);
    assert_eq!(bring(&dispatcher, entry("a")).await, (Landing::Failed, How::Asked));
    assert!(!dispatcher.is_busy());
}

/// A remote that takes its time with every answer is of no use, however right they are: it is left alone, and one
/// answer that comes late doesn't make it well.
#[tokio::test(start_paused = true)]
async fn a_slow_remote_falls_sick_and_stays_so() {
    let backend = Scripted::slow(Duration::from_secs(7));
    let dispatcher = Dispatcher::new(Arc::clone(&backend), 8);
    let mut landings = Vec::new();
    for i in 0..30 {
        let subject = Subject::Records(UnitKey(key(&i.to_string()).0));
        backend.arrange(subject, Fate::Fetched(Fetched::New { bytes: 0 }));
        landings.push(bring(&dispatcher, subject).await.0);
    }
    assert_eq!(landings[..3], [Landing::Arrived; 3]);
    assert_eq!(landings[3..], [Landing::Sick; 27]);
    assert!(dispatcher.traffic().sickness().is_some_and(|why| why.contains("too slow")));
    // Later a single attempt shows that nothing has changed.
    tokio::time::advance(Duration::from_secs(11)).await;
    assert_eq!(bring(&dispatcher, entry("x")).await.0, Landing::Absent);
    assert_eq!(bring(&dispatcher, entry("y")).await.0, Landing::Sick);
}

/// What waits behind other transfers says nothing about the remote, and large entries may take long.
#[tokio::test(start_paused = true)]
async fn neither_the_queue_nor_size_count_as_slowness() {
    let backend = Scripted::slow(Duration::from_secs(2));
    let dispatcher = Dispatcher::new(Arc::clone(&backend), 2);
    let crowd = (0..40).map(|i| {
        let (dispatcher, subject) = (Arc::clone(&dispatcher), entry(&i.to_string()));
        tokio::spawn(async move { bring(&dispatcher, subject).await.0 })
    });
    for one in crowd.collect::<Vec<_>>() {
        assert_eq!(one.await.expect("no panic"), Landing::Absent);
    }
    assert!(dispatcher.traffic().sickness().is_none());
    let backend = Scripted::slow(Duration::from_secs(300));
    let dispatcher = Dispatcher::new(Arc::clone(&backend), 8);
    for i in 0..5 {
        let subject = entry(&i.to_string());
        backend.arrange(subject, Fate::Fetched(Fetched::New { bytes: 200 << 20 }));
        assert_eq!(bring(&dispatcher, subject).await.0, Landing::Arrived);
        assert!(dispatcher.traffic().sickness().is_none());
    }
}

/// A remote that has stopped answering is noticed after the few seconds that a build waits, not when it gives up.
#[tokio::test(start_paused = true)]
async fn a_remote_that_hangs_is_noticed_while_it_does() {
    let backend = Scripted::gated(0);
    let dispatcher = Dispatcher::new(Arc::clone(&backend), 8);
    for i in 0..3 {
        let (dispatcher, subject) =
            (Arc::clone(&dispatcher), Subject::Records(UnitKey(key(&i.to_string()).0)));
        tokio::spawn(async move { bring(&dispatcher, subject).await });
    }
    tokio::time::sleep(SMALL_MAX * 2).await;
    assert_eq!(bring(&dispatcher, entry("x")).await.0, Landing::Sick);
}
