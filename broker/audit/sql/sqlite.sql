-- The audit record in SQLite, version 1: the names of the PostgreSQL schema `audit`. Described in
-- docs/audit.md. Instants are UTC text with microseconds, `2026-11-21T08:00:00.125000Z`, which sorts as it
-- happened.

CREATE TABLE schema_version (version INTEGER NOT NULL PRIMARY KEY) STRICT;
INSERT INTO schema_version VALUES (1);

CREATE TABLE publishes (
    node            INTEGER NOT NULL,
    seq             INTEGER NOT NULL,
    received_at     TEXT    NOT NULL,
    client_id       TEXT    NOT NULL,
    principal       TEXT    NOT NULL,
    peer            TEXT    NOT NULL,
    topic           TEXT    NOT NULL,
    qos             INTEGER NOT NULL,
    retain          INTEGER NOT NULL,
    packet_id       INTEGER NOT NULL,
    properties      BLOB    NOT NULL,
    payload         BLOB,
    payload_bytes   INTEGER NOT NULL,
    payload_digest  BLOB    NOT NULL,
    outcome         TEXT    NOT NULL,
    reason          TEXT    NOT NULL,
    digest          BLOB    NOT NULL,
    PRIMARY KEY (node, seq)
) STRICT, WITHOUT ROWID;
-- Rare among telemetry, so nearly free: what the timeline of an alert is made of.
CREATE INDEX publishes_alerts ON publishes (topic) WHERE topic >= 'alerts/' AND topic < 'alerts0';
CREATE INDEX publishes_responses ON publishes (topic) WHERE topic >= 'responses/' AND topic < 'responses0';

CREATE TABLE access (
    node        INTEGER NOT NULL,
    seq         INTEGER NOT NULL,
    at          TEXT    NOT NULL,
    event       TEXT    NOT NULL,
    client_id   TEXT    NOT NULL,
    principal   TEXT    NOT NULL,
    peer        TEXT    NOT NULL,
    detail      TEXT    NOT NULL,
    reason      TEXT    NOT NULL,
    state       BLOB    NOT NULL,
    digest      BLOB    NOT NULL,
    PRIMARY KEY (node, seq)
) STRICT, WITHOUT ROWID;

CREATE TABLE delivery_steps (
    node        INTEGER NOT NULL,
    seq         INTEGER NOT NULL,
    at          TEXT    NOT NULL,
    step        TEXT    NOT NULL,
    client_id   TEXT    NOT NULL,
    principal   TEXT    NOT NULL,
    peer        TEXT    NOT NULL,
    publish_seq INTEGER NOT NULL,
    alert       TEXT    NOT NULL,
    topic       TEXT    NOT NULL,
    digest      BLOB    NOT NULL,
    PRIMARY KEY (node, seq)
) STRICT, WITHOUT ROWID;

-- Each transaction of the writer: which rows, and the signed tree head after them.
CREATE TABLE batches (
    node        INTEGER NOT NULL,
    first_seq   INTEGER NOT NULL,
    count       INTEGER NOT NULL,
    tree_size   INTEGER NOT NULL,
    at          TEXT    NOT NULL,
    root        BLOB    NOT NULL,
    range       BLOB    NOT NULL,
    key_id      BLOB    NOT NULL,
    signature   BLOB    NOT NULL,
    PRIMARY KEY (node, first_seq),
    UNIQUE (node, tree_size)
) STRICT, WITHOUT ROWID;

CREATE TABLE checkpoints (
    node    INTEGER NOT NULL,
    size    INTEGER NOT NULL,
    root    BLOB    NOT NULL,
    at      TEXT    NOT NULL,
    note    TEXT    NOT NULL,
    PRIMARY KEY (node, size)
) STRICT, WITHOUT ROWID;

-- Public keys that this record was signed with, for convenience: trust needs a copy kept elsewhere.
CREATE TABLE keys (
    node    INTEGER NOT NULL,
    key     TEXT    NOT NULL,
    since   TEXT    NOT NULL,
    PRIMARY KEY (node, key)
) STRICT, WITHOUT ROWID;

-- Where the writer of a node goes on; the fence against a second one.
CREATE TABLE cursor (
    node            INTEGER NOT NULL PRIMARY KEY,
    next_seq        INTEGER NOT NULL,
    writer_epoch    INTEGER NOT NULL
) STRICT;

CREATE TRIGGER publishes_update BEFORE UPDATE ON publishes
    BEGIN SELECT RAISE(ABORT, 'publishes is append-only'); END;
CREATE TRIGGER publishes_delete BEFORE DELETE ON publishes
    BEGIN SELECT RAISE(ABORT, 'publishes is append-only'); END;
CREATE TRIGGER access_update BEFORE UPDATE ON access BEGIN SELECT RAISE(ABORT, 'access is append-only'); END;
CREATE TRIGGER access_delete BEFORE DELETE ON access BEGIN SELECT RAISE(ABORT, 'access is append-only'); END;
CREATE TRIGGER delivery_steps_update BEFORE UPDATE ON delivery_steps
    BEGIN SELECT RAISE(ABORT, 'delivery_steps is append-only'); END;
CREATE TRIGGER delivery_steps_delete BEFORE DELETE ON delivery_steps
    BEGIN SELECT RAISE(ABORT, 'delivery_steps is append-only'); END;
CREATE TRIGGER batches_update BEFORE UPDATE ON batches
    BEGIN SELECT RAISE(ABORT, 'batches is append-only'); END;
CREATE TRIGGER batches_delete BEFORE DELETE ON batches
    BEGIN SELECT RAISE(ABORT, 'batches is append-only'); END;
CREATE TRIGGER checkpoints_update BEFORE UPDATE ON checkpoints
    BEGIN SELECT RAISE(ABORT, 'checkpoints is append-only'); END;
CREATE TRIGGER checkpoints_delete BEFORE DELETE ON checkpoints
    BEGIN SELECT RAISE(ABORT, 'checkpoints is append-only'); END;
CREATE TRIGGER keys_update BEFORE UPDATE ON keys BEGIN SELECT RAISE(ABORT, 'keys is append-only'); END;
CREATE TRIGGER keys_delete BEFORE DELETE ON keys BEGIN SELECT RAISE(ABORT, 'keys is append-only'); END;
CREATE TRIGGER cursor_update BEFORE UPDATE ON cursor
    WHEN NEW.node <> OLD.node OR NEW.next_seq < OLD.next_seq OR NEW.writer_epoch < OLD.writer_epoch
    BEGIN SELECT RAISE(ABORT, 'cursor only moves forward'); END;
CREATE TRIGGER cursor_delete BEFORE DELETE ON cursor
    BEGIN SELECT RAISE(ABORT, 'cursor only moves forward'); END;

CREATE VIEW deliveries AS
SELECT node, min(seq) AS seq, publish_seq, alert, topic, client_id, principal,
       min(at) FILTER (WHERE step = 'sent')        AS sent_at,
       min(at) FILTER (WHERE step = 'confirmed')   AS confirmed_at,
       min(at) FILTER (WHERE step = 'unreachable') AS unreachable_at
FROM delivery_steps
GROUP BY node, publish_seq, alert, topic, client_id, principal;

-- A payload is whatever a client sent. JSON functions fail on what is not JSON, so that reads as `{}`.
CREATE VIEW alert_timeline AS
WITH alerts AS (
    SELECT *, CASE WHEN json_valid(CAST(payload AS TEXT)) THEN CAST(payload AS TEXT) ELSE '{}' END AS document
    FROM publishes WHERE topic >= 'alerts/' AND topic < 'alerts0'
), responses AS (
    SELECT *,
           CASE WHEN json_valid(CAST(payload AS TEXT)) THEN CAST(payload AS TEXT) ELSE '{}' END AS document,
           substr(topic, length('responses/') + 1) AS place
    FROM publishes
    WHERE topic >= 'responses/' AND topic < 'responses0'
      AND length(topic) - length(replace(topic, '/', '')) = 3
), answers AS (
    SELECT *, substr(place, 1, instr(place, '/') - 1) AS unit, substr(place, instr(place, '/') + 1) AS rest
    FROM responses
), steps AS (
    SELECT document ->> '$.alert' AS alert, node, seq, received_at AS at,
           coalesce(document ->> '$.phase', 'alert') AS step,
           coalesce(document ->> '$.to', '') AS who,
           principal, client_id,
           document ->> '$.tier' AS tier, document ->> '$.priority' AS priority,
           document ->> '$.state' AS state, document ->> '$.condition' AS condition,
           document ->> '$.unit' AS unit, document ->> '$.bed' AS bed,
           coalesce(document ->> '$.text', '') AS detail, topic, outcome,
           CASE WHEN (document ->> '$.since') GLOB '[0-9][0-9][0-9][0-9]-[0-9][0-9]-[0-9][0-9]T*'
                THEN julianday(document ->> '$.since') END AS reading_at
    FROM alerts
    UNION ALL
    SELECT substr(rest, instr(rest, '/') + 1), node, seq, received_at, 'answer', principal, principal,
           client_id, NULL, NULL, NULL, NULL, unit, substr(rest, 1, instr(rest, '/') - 1),
           concat_ws(': ', document ->> '$.answer', document ->> '$.reason', nullif(reason, '')),
           topic, outcome, NULL
    FROM answers
    UNION ALL
    SELECT alert, node, seq, at, step, principal, principal, client_id,
           NULL, NULL, NULL, NULL, NULL, NULL, '', topic, 'accepted', NULL
    FROM delivery_steps
)
SELECT CAST(alert AS TEXT) AS alert, row_number() OVER story AS step_number, at,
       CAST(step AS TEXT) AS step, CAST(who AS TEXT) AS who, principal, client_id,
       CAST(tier AS TEXT) AS tier, CAST(priority AS TEXT) AS priority, CAST(state AS TEXT) AS state,
       CAST(condition AS TEXT) AS condition, CAST(unit AS TEXT) AS unit, CAST(bed AS TEXT) AS bed,
       CAST(detail AS TEXT) AS detail, topic, outcome,
       CAST(round((julianday(at) - min(reading_at) OVER (PARTITION BY alert)) * 86400000) AS INTEGER)
           AS latency_ms,
       node, seq
FROM steps
WHERE alert <> ''
WINDOW story AS (PARTITION BY alert ORDER BY node, seq)
ORDER BY alert, node, seq;
