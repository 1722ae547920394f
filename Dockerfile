# docker build -t wardline .
# docker run -v ./site:/etc/wardline:ro -v wardline-data:/var/lib/wardline -p 8883:8883 wardline
#
# /etc/wardline holds wardline.toml and the files it names, keys readable to user 10001. Listeners bind to 0.0.0.0 there;
# with tokens that takes tls or wss, as on any network.

FROM rust:1.95-bookworm AS builder
WORKDIR /source
COPY . .
RUN cargo build --release --locked --package wardline

FROM debian:bookworm-slim
COPY --from=builder /source/target/release/wardline /usr/local/bin/wardline
COPY --from=builder /source/LICENSE /usr/share/doc/wardline/LICENSE
RUN useradd --system --uid 10001 --home-dir /var/lib/wardline --shell /usr/sbin/nologin wardline \
    && install --directory --owner=wardline --group=wardline --mode=0700 /var/lib/wardline
USER wardline
WORKDIR /var/lib/wardline

# Journal, signing key and the embedded audit store. Lose it and the record is lost.
ENV WARDLINE__NODE__DATA=/var/lib/wardline
VOLUME /var/lib/wardline

# MQTT over TLS; MQTT over WebSocket with TLS.
EXPOSE 8883 8884

# Asks the broker's HTTP listener, so `[http] bind` is to stay on.
HEALTHCHECK --interval=10s --timeout=6s --start-period=30s \
    CMD ["wardline", "status", "--config", "/etc/wardline/wardline.toml"]

# SIGTERM drains: clients are told, the audit store gets what it has not.
STOPSIGNAL SIGTERM
ENTRYPOINT ["wardline"]
CMD ["serve", "--config", "/etc/wardline/wardline.toml"]
