//! Writers that overlap on many threads, and syncs between them: replaying the stream gives the disk.

use crate::support::Target;
use change_stream::{Compression, DiskDescription, Frame, StreamId, SyncMode};
use disk::{ByteRange, Bytes, DelayDisk, Disk, MemoryDisk};
use proptest::prelude::*;
use source_agent::{
    Action, BacklogLimits, Event, Sender, SenderConfig, SplitterDisk, Stage, Tracker, TrackerConfig,
};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use testkit::{Rng, SimFolder};

const SIZE: usize = 3 << 19;

/// Runs the sender against the oracle on this thread while `writing` holds; then until everything is there.
fn replicate(sender: &mut Sender, target: &mut Target, writing: impl Fn() -> bool) {
    let mut events = vec![Event::Tick];
    let mut now = 1;
    for _ in 0..5_000_000 {
        let Some(event) = events.pop() else {
            let status = sender.status();
            let caught_up = status.standing.acknowledged + 1 == status.standing.next_sequence;
            if !writing() && status.stage == Stage::Level && caught_up {
                return;
            }
            events.extend(target.acknowledge().map(Event::Frame));
            events.push(Event::Changed);
            continue;
        };
        now += 1000;
        let mut actions = Vec::new();
        sender.step(now, event, &mut actions);
        for action in actions {
            match action {
                Action::Connect => events.insert(0, Event::Connected { fresh_stream: StreamId([2; 16]) }),
                Action::Send(bytes) => {
                    let frames = decode(&bytes);
                    events
                        .extend(frames.into_iter().filter_map(|frame| target.frame(frame)).map(Event::Frame));
                    events.push(Event::Sent { bytes: bytes.len() });
                }
                Action::Run(job) => events.insert(0, Event::JobDone(job.run())),
                _ => {}
            }
        }
    }
    panic!("it does not end: {:?}", sender.status());
}

fn decode(bytes: &[u8]) -> Vec<Frame> {
    let mut decoder = change_stream::Decoder::new();
    let (mut frames, mut at) = (Vec::new(), 0);
    while at < bytes.len() {
        at += decoder.feed(&bytes[at..]);
        while let Some(frame) = decoder.next().unwrap() {
            frames.push(frame);
        }
    }
    frames
}

fn write_randomly(disk: &SplitterDisk, seed: u64, hot: u64) {
    let mut rng = Rng::new(seed);
    for _ in 0..150 {
        let offset = rng.below(hot);
        let length = 1 + rng.below(9000.min(SIZE as u64 - offset));
        if rng.one_in(6) {
            disk.write_zeroes(ByteRange::between(Bytes(offset), Bytes(offset + length))).unwrap();
        } else {
            let mut data = vec![0; length as usize];
            rng.fill(&mut data);
            disk.write_at(Bytes(offset), &data).unwrap();
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn replaying_the_stream_of_concurrent_writers_gives_the_disk(
        seed in any::<u64>(), hot in prop::sample::select(vec![10_000u64, 300_000, SIZE as u64]), initial in any::<bool>(),
    ) {
        let memory = Arc::new(MemoryDisk::new("memory", Bytes(SIZE as u64)));
        let slow: Arc<dyn Disk> = Arc::new(DelayDisk::new(
            memory.clone(),
            seed,
            Duration::from_micros(40),
            std::thread::sleep,
        ));
        let clock = Arc::new(AtomicU64::new(1));
        let (tracker, _) = Tracker::open(
            Arc::new(SimFolder::new("state")),
            TrackerConfig {
                disks: vec![DiskDescription { id: "d".into(), size: SIZE as u64 }],
                backlog: BacklogLimits { bytes: 64 << 20, segment: 1 << 20, cache: 1 << 20 },
                boot: [0; 16],
                fresh_stream: StreamId([1; 16]),
                on_change: Box::new(|| {}),
            },
        ).unwrap();
        let time: source_agent::Clock = Arc::new(move || clock.fetch_add(1, Ordering::SeqCst));
        let splitter = Arc::new(SplitterDisk::new(slow, 0, tracker.clone(), time));
        let config = SenderConfig {
            item: "i".into(),
            agent: "test".into(),
            compression: Compression::None,
            bulk_connections: 0,
            jobs: 2,
            window: 4 << 20,
            scan: None,
        };
        let mut sender = Sender::new(config, tracker, vec![splitter.clone()]);
        let mut target = Target::new(&[SIZE]);
        if !initial {
            target.adopt(StreamId([1; 16]));
        }
        let mode = if initial { SyncMode::Initial } else { SyncMode::Resync };
        std::thread::scope(|scope| {
            let writers: Vec<_> = (0..4)
                .map(|writer| {
                    let splitter = splitter.clone();
                    scope.spawn(move || write_randomly(&splitter, seed ^ writer, hot))
                })
                .collect();
            replicate(&mut sender, &mut target, || writers.iter().any(|writer| !writer.is_finished()));
        });
        prop_assert_eq!(target.sync_begins[0], mode);
        prop_assert!(target.disks[0] == memory.contents(), "seed {}", seed);
    }
}
