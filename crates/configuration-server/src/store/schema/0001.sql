-- Who is registered. "uuid" is what a host is called outside, and stays when it registers again.
CREATE TABLE host (
    id INTEGER PRIMARY KEY,
    uuid TEXT NOT NULL UNIQUE,
    kind TEXT NOT NULL,
    name TEXT NOT NULL COLLATE NOCASE,
    dmi_uuid TEXT,
    machine_id TEXT NOT NULL,
    version TEXT NOT NULL,
    address TEXT NOT NULL,
    registered INTEGER NOT NULL,
    revoked INTEGER
) STRICT;
-- One machine is one host of each kind.
CREATE UNIQUE INDEX host_dmi_uuid ON host (kind, dmi_uuid) WHERE dmi_uuid IS NOT NULL;
CREATE INDEX host_name ON host (name);

-- The certificates that were signed. "fingerprint" is the SHA-256 of the DER, "public_key" a point of P-256.
CREATE TABLE certificate (
    id INTEGER PRIMARY KEY,
    host INTEGER NOT NULL REFERENCES host (id),
    serial TEXT NOT NULL UNIQUE,
    fingerprint BLOB NOT NULL UNIQUE,
    public_key BLOB NOT NULL,
    issued INTEGER NOT NULL,
    valid_until INTEGER NOT NULL
) STRICT;
CREATE INDEX certificate_host ON certificate (host);

-- Handshakes that did not succeed since the last one that did, by address.
CREATE TABLE attempt (
    address TEXT PRIMARY KEY,
    failures INTEGER NOT NULL,
    last INTEGER NOT NULL,
    locked_until INTEGER NOT NULL,
    -- Whether this lock-out has refused anybody yet.
    refused INTEGER NOT NULL
) STRICT;

-- What was asked for, by whom, and what came of it.
CREATE TABLE audit (
    id INTEGER PRIMARY KEY,
    time INTEGER NOT NULL,
    address TEXT NOT NULL,
    host TEXT NOT NULL,
    outcome TEXT NOT NULL,
    detail TEXT NOT NULL
) STRICT;
