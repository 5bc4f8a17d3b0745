//! The sender waits after a refusal, until somebody gives an order.

use change_stream::{Compression, DiskDescription, Frame, RefusalCode, StreamId};
use disk::{Bytes, MemoryDisk};
use source_agent::{
    Action, BacklogLimits, Event, Sender, SenderConfig, SplitterDisk, Stage, Tracker, TrackerConfig,
};
use std::sync::Arc;

const SIZE: u64 = 1 << 20;
const SECOND: u64 = 1_000_000_000;

fn sender() -> Sender {
    let config = TrackerConfig {
        disks: vec![DiskDescription { id: "d".into(), size: SIZE }],
        backlog: BacklogLimits { bytes: 1 << 20, segment: 4096, cache: 4096 },
        boot: [0; 16],
        fresh_stream: StreamId([1; 16]),
        on_change: Box::new(|| {}),
    };
    let (tracker, _) = Tracker::open(Arc::new(testkit::SimFolder::new("state")), config).unwrap();
    let disk = Arc::new(MemoryDisk::new("memory", Bytes(SIZE)));
    let splitter = Arc::new(SplitterDisk::new(disk, 0, tracker.clone(), Arc::new(|| 1)));
    let config = SenderConfig {
        item: "i".into(),
        agent: "test".into(),
        compression: Compression::None,
        bulk_connections: 0,
        jobs: 2,
        window: 4 << 20,
        scan: None,
    };
    Sender::new(config, tracker, vec![splitter])
}

/// Whether it connects, and when it wants to be woken.
fn step(sender: &mut Sender, now: u64, event: Event) -> (bool, Option<u64>) {
    let mut actions = Vec::new();
    sender.step(now, event, &mut actions);
    let connects = actions.iter().any(|action| matches!(action, Action::Connect));
    let wake =
        actions.iter().find_map(|action| if let Action::WakeAt(time) = action { Some(*time) } else { None });
    (connects, wake)
}

#[test]
fn an_order_ends_the_wait_after_a_refusal() {
    let mut sender = sender();
    let connected = || Event::Connected { fresh_stream: StreamId([2; 16]) };
    let refused = || {
        let message = "the item is failed over".to_owned();
        Event::Frame(Frame::Refused { code: RefusalCode::FailedOver, message })
    };
    assert_eq!(step(&mut sender, SECOND, Event::Tick), (true, None));
    step(&mut sender, SECOND, connected());
    let (connects, wake) = step(&mut sender, SECOND, refused());
    assert!(!connects && wake > Some(5 * SECOND), "{wake:?}");
    assert_eq!(step(&mut sender, 2 * SECOND, Event::Tick), (false, wake));
    assert_eq!(step(&mut sender, 2 * SECOND, Event::Hurry), (true, None));
    // It is at it already.
    assert_eq!(step(&mut sender, 2 * SECOND, Event::Hurry), (false, None));
    assert_eq!(sender.status().stage, Stage::Connecting);
    // The next refusal is waited for as ever.
    step(&mut sender, 2 * SECOND, connected());
    let (connects, wake) = step(&mut sender, 2 * SECOND, refused());
    assert!(!connects && wake > Some(6 * SECOND), "{wake:?}");
}
