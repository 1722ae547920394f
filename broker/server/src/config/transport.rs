//! The keys of a listener that say how bytes come to it.

use super::Transport;
use super::section::Section;
use crate::network::Network;
use crate::tls::TlsVersion;
use crate::websocket::Origins;

/// `tls_min`. `transport` is known unless it is wrong itself.
pub(super) fn oldest_tls(section: &mut Section<'_>, transport: Option<Transport>) -> TlsVersion {
    let version = section.parsed("tls_min", |text| match text {
        "1.2" => Ok(TlsVersion::V1_2),
        "1.3" => Ok(TlsVersion::V1_3),
        other => Err(format!("`{other}` is neither \"1.2\" nor \"1.3\"; what is older is not spoken")),
    });
    if let (Some(version), Some(transport)) = (&version, transport)
        && !transport.is_tls()
    {
        let message =
            format!("`tls_min` in [[listener]]: transport {transport} is not encrypted; write tls or wss");
        section.desk.problem(&version.place, message);
    }
    version.map_or_else(TlsVersion::default, |version| version.value)
}

/// `origins`.
pub(super) fn origins(section: &mut Section<'_>, transport: Option<Transport>) -> Origins {
    let texts = section.list("origins");
    let Some(first) = texts.first() else { return Origins::default() };
    if let Some(transport) = transport.filter(|transport| !transport.is_websocket()) {
        let message = format!(
            "`origins` in [[listener]]: web pages come by WebSocket, not by {transport}; write ws or wss"
        );
        section.desk.problem(&first.place, message);
    }
    Origins::parse(texts.iter().map(|text| text.value.as_str())).unwrap_or_else(|error| {
        section.desk.problem(&first.place, format!("`origins` in [[listener]]: {error}"));
        Origins::default()
    })
}

/// `proxy_protocol` and `proxy_trusted`.
pub(super) fn proxies(section: &mut Section<'_>, anonymous: bool) -> Option<Vec<Network>> {
    let mentioned = section.mentions("proxy_protocol");
    let on = section.parsed("proxy_protocol", |text| {
        text.parse::<bool>().map_err(|_| format!("`{text}` is neither true nor false"))
    });
    let texts = section.list("proxy_trusted");
    let trusted = texts.iter().filter_map(|text| {
        section.understood("proxy_trusted", text, str::parse::<Network>).map(|network| network.value)
    });
    let trusted: Vec<Network> = trusted.collect();
    if mentioned && on.is_none() {
        return None;
    }
    match (on.filter(|on| on.value), texts.first()) {
        (None, None) => None,
        (None, Some(first)) => {
            let message = "`proxy_trusted` in [[listener]] is of no use without proxy_protocol = true";
            section.desk.problem(&first.place, message);
            None
        }
        (Some(on), None) => {
            let message = "`proxy_protocol` in [[listener]] lets anybody say where they come from; name the proxies, as in \
                           proxy_trusted = [\"10.20.0.7\"]";
            section.desk.problem(&on.place, message);
            None
        }
        (Some(on), Some(_)) => {
            if anonymous {
                let message = "`proxy_protocol` in [[listener]] and `anonymous` do not go together: behind a proxy nobody is on \
                               loopback; write require = [\"token\"]";
                section.desk.problem(&on.place, message);
            }
            Some(trusted)
        }
    }
}
