//! A source agent written by hand, straight over the change stream.

use change_stream::{
    BookmarkKind, Compression, DiskDescription, Frame, Need, PROTOCOL_VERSION, Position, StreamId, SyncMode,
};
use rig::Certificates;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::io::{ReadHalf, WriteHalf};
use tokio::net::TcpStream;
use tokio::time::timeout;
use transport::tls::{ClientStream, ClientTls, TlsFiles};
use transport::{FrameReader, FrameWriter};

/// Everything here happens within this, or the test has failed.
pub(crate) const SOON: Duration = Duration::from_secs(60);

pub(crate) const STREAM: StreamId = StreamId(*b"the test's strea");

pub(crate) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos() as u64
}

/// The disks as the source has them; every change is made here and sent.
pub(crate) struct Machine {
    pub(crate) disks: Vec<(String, Vec<u8>)>,
    pub(crate) sequence: u64,
    seed: u64,
}

impl Machine {
    pub(crate) fn new(disks: &[(&str, usize)], seed: u64) -> Machine {
        let disks = disks.iter().map(|(id, size)| (id.to_string(), vec![0; *size])).collect();
        let mut machine = Machine { disks, sequence: 0, seed };
        for disk in 0..machine.disks.len() {
            for _ in 0..40 {
                machine.scribble(disk);
            }
        }
        machine
    }

    pub(crate) fn random(&mut self, below: usize) -> usize {
        self.seed = self.seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.seed >> 33) as usize % below
    }

    /// Changes some bytes of a disk and says which.
    pub(crate) fn scribble(&mut self, disk: usize) -> (usize, usize) {
        let size = self.disks[disk].1.len();
        let offset = self.random(size / 512) * 512;
        let length = (self.random(64) * 512 + 512).min(size - offset);
        let start = self.random(251);
        for (n, byte) in self.disks[disk].1[offset..offset + length].iter_mut().enumerate() {
            *byte = ((start + n * 7) % 251) as u8;
        }
        (offset, length)
    }

    /// The next change: a frame, made on the disks already.
    pub(crate) fn change(&mut self) -> Frame {
        let disk = self.random(self.disks.len());
        let (offset, length) = self.scribble(disk);
        let at = self.next();
        let (number, offset) = (disk as u16, offset as u64);
        if self.random(8) == 0 {
            self.disks[disk].1[offset as usize..offset as usize + length].fill(0);
            return Frame::WriteZeroes { at, disk: number, offset, length: length as u64 };
        }
        let data = self.disks[disk].1[offset as usize..offset as usize + length].to_vec();
        Frame::Write { at, disk: number, offset, data }
    }

    pub(crate) fn bookmark(&mut self, name: &str, kind: BookmarkKind) -> Frame {
        Frame::Bookmark { at: self.next(), kind, name: name.into(), group: None }
    }

    pub(crate) fn next(&mut self) -> Position {
        self.sequence += 1;
        Position { sequence: self.sequence, time: now() }
    }

    pub(crate) fn hello(&self, item: &str) -> Frame {
        let disks =
            self.disks.iter().map(|(id, bytes)| DiskDescription { id: id.clone(), size: bytes.len() as u64 });
        Frame::Hello {
            version: PROTOCOL_VERSION,
            item: item.into(),
            stream: STREAM,
            disks: disks.collect(),
            oldest_held: 1,
            next_sequence: self.sequence + 1,
            agent: "test".into(),
        }
    }
}

/// A connection of the source to the master target.
pub(crate) struct Source {
    reader: FrameReader<ReadHalf<ClientStream<TcpStream>>>,
    writer: FrameWriter<WriteHalf<ClientStream<TcpStream>>>,
    pub(crate) durable_sequence: u64,
    pub(crate) durable_sync: u64,
}

impl Source {
    /// Connects with the certificate of `name`.
    pub(crate) async fn connect(
        certificates: &Certificates,
        name: &str,
        port: u16,
    ) -> transport::Result<Source> {
        let files = TlsFiles {
            certificate: certificates.certificate(name),
            key: certificates.key(name),
            ca: certificates.ca(),
        };
        Source::connect_with(&files, "target.example", port).await
    }

    /// Connects with these files to a master target of this name.
    pub(crate) async fn connect_with(files: &TlsFiles, target: &str, port: u16) -> transport::Result<Source> {
        let tls = ClientTls::load(files)?;
        let socket = transport::connect(&format!("127.0.0.1:{port}"), SOON).await?;
        let stream = tls.connect(socket, target).await?;
        let (read, write) = tokio::io::split(stream);
        Ok(Source {
            reader: FrameReader::new(read, "mtd"),
            writer: FrameWriter::new(write, "mtd", Compression::Lz4),
            durable_sequence: 0,
            durable_sync: 0,
        })
    }

    pub(crate) async fn send(&mut self, frame: &Frame) {
        self.writer.send(frame).await.unwrap();
    }

    pub(crate) async fn receive(&mut self) -> transport::Result<Option<Frame>> {
        self.writer.flush().await?;
        timeout(SOON, self.reader.next()).await.expect("no frame came in time")
    }

    /// Says hello and is welcomed; what the master target needs, and where it stands.
    pub(crate) async fn open(&mut self, hello: &Frame) -> (Need, u64) {
        self.send(hello).await;
        match self.receive().await.unwrap() {
            Some(Frame::Welcome { need, durable_sequence, .. }) => {
                self.durable_sequence = durable_sequence;
                (need, durable_sequence)
            }
            other => panic!("not welcomed: {other:?}"),
        }
    }

    /// Waits until so much is acknowledged as durable.
    pub(crate) async fn wait_durable(&mut self, sequence: u64, sync: u64) {
        while self.durable_sequence < sequence || self.durable_sync < sync {
            match self.receive().await.unwrap() {
                Some(Frame::Ack { durable_sequence, durable_sync }) => {
                    assert!(durable_sequence >= self.durable_sequence, "acknowledgements go back");
                    (self.durable_sequence, self.durable_sync) = (durable_sequence, durable_sync);
                }
                other => panic!("expected an acknowledgement, got {other:?}"),
            }
        }
    }

    /// A whole initial sync, with changes in between.
    pub(crate) async fn initial_sync(&mut self, machine: &mut Machine) {
        const STEP: usize = 1 << 20;
        let begin =
            Frame::SyncBegin { mode: SyncMode::Initial, stream: STREAM, base_sequence: machine.sequence };
        self.send(&begin).await;
        let mut frames = 0;
        for disk in 0..machine.disks.len() {
            let size = machine.disks[disk].1.len();
            for offset in (0..size).step_by(STEP) {
                let data = machine.disks[disk].1[offset..size.min(offset + STEP)].to_vec();
                let (disk, offset) = (disk as u16, offset as u64);
                let length = data.len() as u64;
                self.send(&match data.iter().all(|byte| *byte == 0) {
                    true => Frame::SyncZeroes { disk, offset, length },
                    false => Frame::SyncData { disk, offset, data },
                })
                .await;
                frames += 1;
                let change = machine.change();
                self.send(&change).await;
            }
        }
        self.send(&Frame::SyncEnd { time: now(), consistent: true }).await;
        self.wait_durable(machine.sequence, frames + 1).await;
    }

    /// Changes, and waits until they are durable.
    pub(crate) async fn replicate(&mut self, machine: &mut Machine, changes: usize) {
        for _ in 0..changes {
            let change = machine.change();
            self.send(&change).await;
        }
        self.wait_durable(machine.sequence, 0).await;
    }
}

/// A port that nobody listens at.
pub(crate) fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}
