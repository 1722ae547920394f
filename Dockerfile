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

# The image has no HTTP client; Perl is part of Debian's base.
HEALTHCHECK --interval=10s --timeout=3s --start-period=30s CMD ["perl", "-MIO::Socket::INET", "-e", \
    "$s = IO::Socket::INET->new('127.0.0.1:9180') or exit 1; print $s \"GET /healthz HTTP/1.0\\r\\n\\r\\n\"; exit(<$s> !~ / 200 /)"]

# SIGTERM drains: clients are told, the audit store gets what it has not.
STOPSIGNAL SIGTERM
ENTRYPOINT ["wardline"]
CMD ["serve", "--config", "/etc/wardline/wardline.toml"]
