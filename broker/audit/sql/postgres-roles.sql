-- Roles for the audit record, run once by its owner after the schema exists. Give each person and program one
-- of them; neither can change or delete a row, and only the owner, who should be nobody's daily account, can
-- drop a table.

DO $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'wardline_audit_writer') THEN
        CREATE ROLE wardline_audit_writer NOLOGIN;
    END IF;
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'wardline_audit_reader') THEN
        CREATE ROLE wardline_audit_reader NOLOGIN;
    END IF;
END $$;

REVOKE ALL ON SCHEMA audit FROM PUBLIC;
REVOKE ALL ON ALL TABLES IN SCHEMA audit FROM PUBLIC;

-- The broker: adds rows, moves its cursor, and reads what it needs to go on after a restart.
GRANT USAGE ON SCHEMA audit TO wardline_audit_writer;
GRANT INSERT ON audit.publishes, audit.access, audit.delivery_steps, audit.batches, audit.checkpoints,
    audit.keys
    TO wardline_audit_writer;
GRANT SELECT ON audit.schema_version, audit.batches, audit.checkpoints, audit.keys TO wardline_audit_writer;
GRANT SELECT, INSERT, UPDATE ON audit.cursor TO wardline_audit_writer;

-- Compliance officers, `wardline audit query` and `wardline audit verify`.
GRANT USAGE ON SCHEMA audit TO wardline_audit_reader;
GRANT SELECT ON ALL TABLES IN SCHEMA audit TO wardline_audit_reader;
