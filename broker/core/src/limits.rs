//! Every maximum of the core, by name.

/// What one node grants its clients.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Seconds. A longer or absent keep-alive is overridden by this one for MQTT 5 clients; 0 leaves it to the client.
    pub keep_alive_max: u16,
    /// QoS 1 and 2 publishes a client may have unacknowledged. Beyond it: DISCONNECT 0x93.
    pub receive_maximum: u16,
    /// Aliases a client may define on a connection. Beyond it: DISCONNECT 0x94.
    pub topic_alias_maximum: u16,
    /// Bytes of one packet from a client. Beyond it: DISCONNECT 0x95.
    pub packet_bytes_max: u32,
    /// Seconds a session may outlive its connection; a longer wish is cut to this.
    pub session_expiry_max: u32,
    /// Subscriptions of one session. Beyond it: SUBACK 0x97.
    pub subscriptions_max: usize,
    /// QoS 1 and 2 telemetry waiting for one session. Beyond it the newest is not queued for that session, and counted.
    pub queued_messages_max: usize,
    /// QoS 0 telemetry waiting for one connected session. Beyond it the oldest is shed, and counted.
    pub queued_qos0_max: usize,
    /// QoS 1 and 2 publishes sent to one client and not yet acknowledged; the client's own receive maximum may be lower.
    pub in_flight_max: u16,
    /// First topic levels whose publishes take the alert lane.
    pub alert_roots: Vec<String>,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            keep_alive_max: 0,
            receive_maximum: 1_024,
            topic_alias_maximum: 64,
            packet_bytes_max: 256 * 1_024,
            session_expiry_max: 7 * 24 * 3_600,
            subscriptions_max: 1_000,
            queued_messages_max: 100_000,
            queued_qos0_max: 10_000,
            in_flight_max: 1_024,
            alert_roots: ["alerts", "alarms", "responses", "wardline"].map(String::from).to_vec(),
        }
    }
}
