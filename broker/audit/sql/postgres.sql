-- The audit record in PostgreSQL, version 1. Described in docs/audit.md.
-- Fixed-width columns first, text in byte order: rows without padding, comparisons without a locale.

CREATE SCHEMA IF NOT EXISTS audit;

CREATE TABLE audit.schema_version (version integer NOT NULL PRIMARY KEY);
INSERT INTO audit.schema_version VALUES (1);

CREATE TABLE audit.publishes (
    seq             bigint      NOT NULL,
    received_at     timestamptz NOT NULL,
    payload_bytes   bigint      NOT NULL,
    node            integer     NOT NULL,
    packet_id       integer     NOT NULL,
    qos             smallint    NOT NULL,
    retain          boolean     NOT NULL,
    client_id       text        COLLATE "C" NOT NULL,
    principal       text        COLLATE "C" NOT NULL,
    peer            text        COLLATE "C" NOT NULL,
    topic           text        COLLATE "C" NOT NULL,
    outcome         text        COLLATE "C" NOT NULL,
    reason          text        COLLATE "C" NOT NULL,
    properties      bytea       NOT NULL,
    payload         bytea,
    payload_digest  bytea       NOT NULL,
    digest          bytea       NOT NULL,
    PRIMARY KEY (node, seq)
);
-- Rows arrive in time order, so a few bytes per page range find a time window; without autosummarize new
-- pages are missed.
CREATE INDEX publishes_received_at ON audit.publishes
    USING brin (received_at) WITH (pages_per_range = 32, autosummarize = on);
-- Rare among telemetry, so nearly free: what the timeline of an alert is made of.
CREATE INDEX publishes_alerts ON audit.publishes (node, seq) WHERE topic >= 'alerts/' AND topic < 'alerts0';
CREATE INDEX publishes_responses ON audit.publishes (node, seq)
    WHERE topic >= 'responses/' AND topic < 'responses0';

CREATE TABLE audit.access (
    seq         bigint      NOT NULL,
    at          timestamptz NOT NULL,
    node        integer     NOT NULL,
    event       text        COLLATE "C" NOT NULL,
    client_id   text        COLLATE "C" NOT NULL,
    principal   text        COLLATE "C" NOT NULL,
    peer        text        COLLATE "C" NOT NULL,
    detail      text        COLLATE "C" NOT NULL,
    reason      text        COLLATE "C" NOT NULL,
    state       bytea       NOT NULL,
    digest      bytea       NOT NULL,
    PRIMARY KEY (node, seq)
);
CREATE INDEX access_at ON audit.access USING brin (at) WITH (pages_per_range = 32, autosummarize = on);

CREATE TABLE audit.delivery_steps (
    seq         bigint      NOT NULL,
    at          timestamptz NOT NULL,
    publish_seq bigint      NOT NULL,
    node        integer     NOT NULL,
    step        text        COLLATE "C" NOT NULL,
    client_id   text        COLLATE "C" NOT NULL,
    principal   text        COLLATE "C" NOT NULL,
    peer        text        COLLATE "C" NOT NULL,
    alert       text        COLLATE "C" NOT NULL,
    topic       text        COLLATE "C" NOT NULL,
    digest      bytea       NOT NULL,
    PRIMARY KEY (node, seq)
);
CREATE INDEX delivery_steps_at ON audit.delivery_steps USING brin (at)
    WITH (pages_per_range = 32, autosummarize = on);

-- Each transaction of the writer: which rows, and the signed tree head after them.
CREATE TABLE audit.batches (
    first_seq   bigint      NOT NULL,
    tree_size   bigint      NOT NULL,
    at          timestamptz NOT NULL,
    node        integer     NOT NULL,
    count       integer     NOT NULL,
    root        bytea       NOT NULL,
    range       bytea       NOT NULL,
    key_id      bytea       NOT NULL,
    signature   bytea       NOT NULL,
    PRIMARY KEY (node, first_seq),
    UNIQUE (node, tree_size)
);

CREATE TABLE audit.checkpoints (
    size    bigint      NOT NULL,
    at      timestamptz NOT NULL,
    node    integer     NOT NULL,
    root    bytea       NOT NULL,
    note    text        COLLATE "C" NOT NULL,
    PRIMARY KEY (node, size)
);

-- Public keys that this record was signed with, for convenience: trust needs a copy kept elsewhere.
CREATE TABLE audit.keys (
    node    integer     NOT NULL,
    key     text        COLLATE "C" NOT NULL,
    since   timestamptz NOT NULL,
    PRIMARY KEY (node, key)
);

-- Where the writer of a node goes on; the fence against a second one.
CREATE TABLE audit.cursor (
    node            integer NOT NULL PRIMARY KEY,
    next_seq        bigint  NOT NULL,
    writer_epoch    bigint  NOT NULL
);

CREATE FUNCTION audit.refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'audit.% is append-only', TG_TABLE_NAME USING ERRCODE = 'insufficient_privilege';
END $$;

CREATE FUNCTION audit.refuse_rewind() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.node <> OLD.node OR NEW.next_seq < OLD.next_seq OR NEW.writer_epoch < OLD.writer_epoch THEN
        RAISE EXCEPTION 'audit.cursor only moves forward' USING ERRCODE = 'insufficient_privilege';
    END IF;
    RETURN NEW;
END $$;

DO $$
DECLARE name text;
BEGIN
    FOREACH name IN ARRAY ARRAY['publishes', 'access', 'delivery_steps', 'batches', 'checkpoints', 'keys']
    LOOP
        EXECUTE format('CREATE TRIGGER append_only BEFORE UPDATE OR DELETE ON audit.%I
                        FOR EACH ROW EXECUTE FUNCTION audit.refuse_change()', name);
        EXECUTE format('CREATE TRIGGER no_truncate BEFORE TRUNCATE ON audit.%I
                        FOR EACH STATEMENT EXECUTE FUNCTION audit.refuse_change()', name);
    END LOOP;
END $$;
CREATE TRIGGER forward_only BEFORE UPDATE ON audit.cursor
    FOR EACH ROW EXECUTE FUNCTION audit.refuse_rewind();
CREATE TRIGGER append_only BEFORE DELETE ON audit.cursor
    FOR EACH ROW EXECUTE FUNCTION audit.refuse_change();
CREATE TRIGGER no_truncate BEFORE TRUNCATE ON audit.cursor
    FOR EACH STATEMENT EXECUTE FUNCTION audit.refuse_change();

CREATE VIEW audit.deliveries AS
SELECT node, min(seq) AS seq, publish_seq, alert, topic, client_id, principal,
       min(at) FILTER (WHERE step = 'sent')        AS sent_at,
       min(at) FILTER (WHERE step = 'confirmed')   AS confirmed_at,
       min(at) FILTER (WHERE step = 'unreachable') AS unreachable_at
FROM audit.delivery_steps
GROUP BY node, publish_seq, alert, topic, client_id, principal;

-- A payload is whatever a client sent: a view over it must never fail.
CREATE FUNCTION audit.json_or_null(payload bytea) RETURNS jsonb
    LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL SAFE AS $$
BEGIN
    RETURN convert_from(payload, 'UTF8')::jsonb;
EXCEPTION WHEN OTHERS THEN
    RETURN NULL;
END $$;

CREATE FUNCTION audit.time_or_null(written text) RETURNS timestamptz
    LANGUAGE plpgsql STABLE STRICT PARALLEL SAFE AS $$
DECLARE instant timestamptz;
BEGIN
    IF written !~ '^\d{4}-\d{2}-\d{2}T' THEN RETURN NULL; END IF;
    instant := written::timestamptz;
    RETURN instant;
EXCEPTION WHEN OTHERS THEN
    RETURN NULL;
END $$;

CREATE VIEW audit.alert_timeline AS
WITH steps AS (
    SELECT document ->> 'alert' AS alert, node, seq, received_at AS at,
           coalesce(document ->> 'phase', 'alert') AS step,
           coalesce(document ->> 'to', '') AS who,
           principal, client_id,
           document ->> 'tier' AS tier, document ->> 'priority' AS priority, document ->> 'state' AS state,
           document ->> 'condition' AS condition, document ->> 'unit' AS unit, document ->> 'bed' AS bed,
           coalesce(document ->> 'text', '') AS detail, topic, outcome,
           audit.time_or_null(document ->> 'since') AS reading_at
    FROM (SELECT *, audit.json_or_null(payload) AS document FROM audit.publishes
          WHERE topic >= 'alerts/' AND topic < 'alerts0') AS alerts
    UNION ALL
    SELECT split_part(topic, '/', 4), node, seq, received_at, 'answer', principal, principal, client_id,
           NULL, NULL, NULL, NULL, split_part(topic, '/', 2), split_part(topic, '/', 3),
           concat_ws(': ', document ->> 'answer', document ->> 'reason', nullif(reason, '')),
           topic, outcome, NULL
    FROM (SELECT *, audit.json_or_null(payload) AS document FROM audit.publishes
          WHERE topic >= 'responses/' AND topic < 'responses0') AS responses
    WHERE length(topic) - length(replace(topic, '/', '')) = 3
    UNION ALL
    SELECT alert, node, seq, at, step, principal, principal, client_id,
           NULL, NULL, NULL, NULL, NULL, NULL, '', topic, 'accepted', NULL
    FROM audit.delivery_steps
)
SELECT alert, row_number() OVER story AS step_number, at, step, who, principal, client_id, tier, priority,
       state, condition, unit, bed, detail, topic, outcome,
       round(extract(epoch FROM at - min(reading_at) OVER (PARTITION BY alert)) * 1000)::bigint AS latency_ms,
       node, seq
FROM steps
WHERE alert <> ''
WINDOW story AS (PARTITION BY alert ORDER BY node, seq)
ORDER BY alert, node, seq;
