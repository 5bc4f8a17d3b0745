-- Since when a certificate counts no more. Until now that was told by a "valid_until" before its time, 90 days.
ALTER TABLE certificate ADD COLUMN revoked INTEGER;
UPDATE certificate SET revoked = valid_until, valid_until = issued + 7776000000000000
    WHERE valid_until < issued + 7776000000000000;
CREATE INDEX certificate_revoked ON certificate (valid_until) WHERE revoked IS NOT NULL;

-- What each host last told of itself: a heartbeat, without its items, as JSON. "connected" is 0 when none came for
-- too long.
CREATE TABLE report (
    host INTEGER PRIMARY KEY REFERENCES host (id),
    received INTEGER NOT NULL,
    connected INTEGER NOT NULL,
    body TEXT NOT NULL
) STRICT;

-- Policies that items may have. Times in seconds.
CREATE TABLE policy (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE COLLATE NOCASE,
    window_seconds INTEGER NOT NULL,
    rpo_threshold_seconds INTEGER NOT NULL,
    application_consistent_every_seconds INTEGER NOT NULL
) STRICT;
INSERT INTO policy VALUES (1, 'Failback', 86400, 900, 3600);

-- Items that are failed over together.
CREATE TABLE item_group (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE COLLATE NOCASE
) STRICT;

-- The replicated items, as their master targets last told. "gone" is when its master target stopped telling of it.
CREATE TABLE item (
    id INTEGER PRIMARY KEY,
    host INTEGER NOT NULL REFERENCES host (id),
    name TEXT NOT NULL,
    state TEXT NOT NULL,
    -- The severity of its worst alert, or of its state: info, warning or critical.
    health TEXT NOT NULL,
    rpo_seconds INTEGER,
    reported INTEGER NOT NULL,
    gone INTEGER,
    policy INTEGER NOT NULL DEFAULT 1 REFERENCES policy (id),
    item_group INTEGER REFERENCES item_group (id),
    UNIQUE (host, name)
) STRICT;
CREATE INDEX item_name ON item (name);
CREATE INDEX item_group_items ON item (item_group);

-- The long part of what is told of each item, apart from what lists are made of: an ItemStatus and its newest bookmarks,
-- both JSON.
CREATE TABLE item_status (
    item INTEGER PRIMARY KEY REFERENCES item (id) ON DELETE CASCADE,
    body TEXT NOT NULL,
    points TEXT
) STRICT;

-- The recovery point objective of each item over the last day, one row for each five minutes: the worst of them.
CREATE TABLE sample (
    item INTEGER NOT NULL REFERENCES item (id) ON DELETE CASCADE,
    -- Five minutes since the Unix epoch.
    slot INTEGER NOT NULL,
    rpo_seconds INTEGER,
    bytes_per_second INTEGER NOT NULL,
    PRIMARY KEY (item, slot)
) STRICT, WITHOUT ROWID;

-- What hosts were ordered to do. "body" is a JobKind, "report" the newest JobReport, both JSON.
CREATE TABLE job (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    uuid TEXT NOT NULL UNIQUE,
    host INTEGER NOT NULL REFERENCES host (id),
    -- The item that it is about, when it is known here.
    item INTEGER REFERENCES item (id) ON DELETE SET NULL,
    body TEXT NOT NULL,
    state TEXT NOT NULL,
    ordered INTEGER NOT NULL,
    ordered_by TEXT NOT NULL,
    -- When the order was first handed to the host: from then on only the host knows whether it has begun.
    told INTEGER,
    ended INTEGER,
    -- Who wants it to be given up.
    cancelled_by TEXT,
    report TEXT
) STRICT;
CREATE INDEX job_open ON job (host) WHERE ended IS NULL;
CREATE INDEX job_ended ON job (ended) WHERE ended IS NOT NULL;
CREATE INDEX job_host ON job (host);
CREATE INDEX job_item ON job (item);

-- What happened.
CREATE TABLE event (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    time INTEGER NOT NULL,
    severity TEXT NOT NULL,
    kind TEXT NOT NULL,
    -- The host, item or user that it is about, by name.
    object TEXT NOT NULL,
    what TEXT NOT NULL,
    cause TEXT NOT NULL,
    next TEXT NOT NULL,
    host INTEGER REFERENCES host (id),
    item INTEGER REFERENCES item (id) ON DELETE SET NULL
) STRICT;
CREATE INDEX event_host ON event (host);
CREATE INDEX event_item ON event (item);

-- What needs attention, or did. "key" names it once: while it is not cleared, it is not raised again.
CREATE TABLE alert (
    id INTEGER PRIMARY KEY,
    key TEXT NOT NULL,
    raised INTEGER NOT NULL,
    cleared INTEGER,
    -- The event that raised it, which tells what it is about, and the one that tells it is over.
    event INTEGER NOT NULL REFERENCES event (id),
    over INTEGER REFERENCES event (id)
) STRICT;
CREATE UNIQUE INDEX alert_raised ON alert (key) WHERE cleared IS NULL;
CREATE INDEX alert_event ON alert (event);
CREATE INDEX alert_over ON alert (over) WHERE over IS NOT NULL;

-- Who may use the portal. "password" is a PHC string.
CREATE TABLE user (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE COLLATE NOCASE,
    role TEXT NOT NULL,
    password TEXT NOT NULL,
    made INTEGER NOT NULL,
    -- The last time that somebody logged in.
    seen INTEGER
) STRICT;

-- Who is logged in. "token" is the SHA-256 of what the browser holds.
CREATE TABLE session (
    token BLOB PRIMARY KEY,
    user INTEGER NOT NULL REFERENCES user (id) ON DELETE CASCADE,
    address TEXT NOT NULL,
    begun INTEGER NOT NULL,
    used INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX session_user ON session (user);

-- A session ends with the password and the role that it began with, whoever changes them.
CREATE TRIGGER user_changed AFTER UPDATE OF password, role ON user
WHEN new.password != old.password OR new.role != old.role
BEGIN
    DELETE FROM session WHERE user = new.id;
END;

-- When this store was brought back from a backup, and when that was made.
CREATE TABLE restored (
    time INTEGER NOT NULL,
    made INTEGER NOT NULL
) STRICT;

-- How far the events have been delivered to each channel: mail or a webhook.
CREATE TABLE delivery (
    channel TEXT PRIMARY KEY,
    -- The last event that arrived, or was not for it.
    event INTEGER NOT NULL,
    -- The last event of the message that is on its way: one that is repeated is the same as before.
    sending INTEGER,
    -- Attempts in vain since then, when the first one was, and what the last one said.
    failures INTEGER NOT NULL DEFAULT 0,
    since INTEGER,
    why TEXT
) STRICT;
