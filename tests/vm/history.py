"""A disk whose content tells how it came to be, and a check of recovery points against that.

Every block of 4096 bytes holds its own number and the version of the write that it comes from; versions are counted
from 1 over the whole disk, and 0 is the content at first. Where each write goes is decided by a seed, and one write is
finished before the next begins. So a state of the disk is one that there was if, and only if, it equals what the first
N writes make, where N is the highest version in it.

    history.py image FILE BLOCKS                makes an image, all of version 0
    history.py write DEVICE SEED COUNT          writes COUNT times, at most; fewer when told to end (SIGTERM)
    history.py verify SOCKET ITEM SEED          reads every recovery point of an item of one disk, through mtd's socket
    history.py digest FILE SEED                 checks an image by itself; prints its version
"""

import array, hashlib, json, mmap, os, random, signal, socket, struct, sys, tempfile, time

BLOCK = 4096
LONGEST = 32
HEAD = struct.Struct("<QQ")
# The most points that mtd lists at once: where there are more, not every one would be looked at.
LIMIT = 10000
# With fewer, little is proved.
LEAST = 20
POOL = hashlib.shake_256(b"history").digest((1 << 20) + BLOCK)


def content(block, version):
    """Differs in every byte from what another version has there, nearly, and no compressor makes it much smaller."""
    start = (block * 7919 + version * 104729) * 61 % (1 << 20)
    return HEAD.pack(block, version) + POOL[start : start + BLOCK - HEAD.size]


def writes(blocks, seed):
    """The ranges of the writes of versions 1, 2, 3, …: first block and how many."""
    chance = random.Random(seed)
    while True:
        count = min(chance.randint(1, LONGEST), blocks)
        yield chance.randrange(blocks - count + 1), count


def data_of(first, count, version):
    return b"".join(content(block, version) for block in range(first, first + count))


def image(path, blocks):
    with open(path, "wb") as file:
        for block in range(blocks):
            file.write(content(block, 0))


def write(device, seed, most):
    """Tells on standard output how many writes there were."""
    ended = []
    signal.signal(signal.SIGTERM, lambda *_: ended.append(True))
    disk = os.open(device, os.O_RDWR | os.O_DIRECT)
    blocks = os.lseek(disk, 0, os.SEEK_END) // BLOCK
    buffer = mmap.mmap(-1, LONGEST * BLOCK)
    version = 0
    for version, (first, count) in enumerate(writes(blocks, seed), 1):
        buffer[: count * BLOCK] = data_of(first, count, version)
        written = os.pwrite(disk, memoryview(buffer)[: count * BLOCK], first * BLOCK)
        assert written == count * BLOCK, f"a write of {count} blocks wrote {written} bytes"
        if ended or version == most:
            break
    print(version)


class Replay:
    """The states of the disk, one after the other."""

    def __init__(self, blocks, seed):
        self.state = bytearray(data_of(0, blocks, 0))
        self.version = 0
        self.writes = writes(blocks, seed)

    def advance(self, version):
        while self.version < version:
            first, count = next(self.writes)
            self.version += 1
            self.state[first * BLOCK : (first + count) * BLOCK] = data_of(first, count, self.version)

    def check(self, data):
        """What is wrong with this state, or None. Versions must not fall from one call to the next."""
        versions = array.array("Q", data)[1 :: BLOCK // 8]
        newest = max(versions)
        if newest < self.version:
            return f"it is of version {newest}, but an older point of version {self.version}"
        if newest > self.version + 1_000_000:
            return f"it holds a block of version {newest:#x}, which is none"
        self.advance(newest)
        if data == self.state:
            return None
        blocks = range(0, len(data), BLOCK)
        wrong = [at for at in blocks if data[at : at + BLOCK] != self.state[at : at + BLOCK]]
        told = []
        for at in wrong[:5]:
            found, wanted = HEAD.unpack_from(data, at), HEAD.unpack_from(self.state, at)
            told.append(f"block {at // BLOCK} says {found[0]}, version {found[1]}, and should be of {wanted[1]}")
        return f"{len(wrong)} blocks are not what they were after write {newest}: " + "; ".join(told)


class Daemon:
    def __init__(self, path):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.connect(path)
        self.lines = self.socket.makefile("rb")

    def ask(self, call):
        self.socket.sendall(json.dumps({"api": 1, "call": call}).encode() + b"\n")
        while True:
            reply = json.loads(self.lines.readline())
            if "done" in reply:
                return next(iter(reply["done"].values()))
            if "failed" in reply:
                raise SystemExit(f"FAILED: {call}: {reply['failed']}")


def read_nbd(path, export):
    """All bytes of an export."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(path)
        stream = connection.makefile("rb")
        assert stream.read(16) == b"NBDMAGICIHAVEOPT"
        stream.read(2)
        name = export.encode()
        connection.sendall(struct.pack(">I", 3) + b"IHAVEOPT" + struct.pack(">II", 1, len(name)) + name)
        size, _ = struct.unpack(">QH", stream.read(10))
        parts = []
        for offset in range(0, size, 1 << 20):
            length = min(1 << 20, size - offset)
            connection.sendall(struct.pack(">IHHQQI", 0x25609513, 0, 0, offset, offset, length))
            magic, error, handle = struct.unpack(">IIQ", stream.read(16))
            assert (magic, error, handle) == (0x67446698, 0, offset), f"reading at {offset}: error {error}"
            parts.append(stream.read(length))
        connection.sendall(struct.pack(">IHHQQI", 0x25609513, 0, 2, 0, 0, 0))
    return b"".join(parts)


def verify(path, item, seed):
    daemon = Daemon(path)
    points = daemon.ask({"points": {"item": item, "from": None, "to": None, "bookmarks": False, "limit": LIMIT}})
    assert LEAST <= len(points) < LIMIT, f"{item} has {len(points)} recovery points"
    replay, first, bad, begun = None, None, 0, time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        listen = f"{folder}/point.sock"
        for point in sorted(points, key=lambda point: point["number"]):
            call = {"item": item, "point": str(point["number"]), "listen": f"unix:{listen}"}
            view = daemon.ask({"test-failover-start": call})
            data = read_nbd(listen, view["exports"][0]["disk"])
            daemon.ask({"test-failover-stop": {"id": view["id"]}})
            replay = replay or Replay(len(data) // BLOCK, seed)
            wrong = replay.check(data)
            if wrong:
                bad += 1
                print(f"FAILED: point {point['number']} of {item}: {wrong}")
            first = replay.version if first is None else first
    if first >= replay.version:
        bad += 1
        print(f"FAILED: all points of {item} show the same: what there was after write {first}")
    seconds = time.monotonic() - begun
    print(f"{item}: {len(points)} points, from write {first} to write {replay.version}, {bad} wrong, {seconds:.0f} s")
    sys.exit(1 if bad else 0)


def digest(path, seed):
    with open(path, "rb") as file:
        data = file.read()
    replay = Replay(len(data) // BLOCK, seed)
    wrong = replay.check(data)
    print(replay.version if wrong is None else f"FAILED: {path}: {wrong}")
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    command, *words = sys.argv[1:]
    {
        "image": lambda path, blocks: image(path, int(blocks)),
        "write": lambda device, seed, most: write(device, seed, int(most)),
        "verify": verify,
        "digest": digest,
    }[command](*words)
