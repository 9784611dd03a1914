//! Listeners and their chains of HTTP filters.

use std::net::SocketAddr;

use serde_json::{Map, Value, json};

use super::route::{self, HTTP_PROXY};
use super::{Proxy, address, extension, file_source, jwt, rbac, route_file, tls};
use crate::api::extensions::PluginPhase;
use crate::api::mesh::ForwardClientCertDetails;
use crate::model::MutualTls;
use crate::model::plugin::Traffic;
use crate::model::routing;

const HTTP_CONNECTION_MANAGER: &str = "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager";

/// Istio's default format for access logs, and what the limiter's limits in shadow have noted. `istio/install/values.yaml` has the same for a cluster.
const ACCESS_LOG_FORMAT: &str = concat!(
    "[%START_TIME%] \"%REQ(:METHOD)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %PROTOCOL%\" \
     %RESPONSE_CODE% %RESPONSE_FLAGS% ",
    "%RESPONSE_CODE_DETAILS% %CONNECTION_TERMINATION_DETAILS% \
     \"%UPSTREAM_TRANSPORT_FAILURE_REASON%\" ",
    "%BYTES_RECEIVED% %BYTES_SENT% %DURATION% %RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)% \
     \"%REQ(X-FORWARDED-FOR)%\" ",
    "\"%REQ(USER-AGENT)%\" \"%REQ(X-REQUEST-ID)%\" \"%REQ(:AUTHORITY)%\" \"%UPSTREAM_HOST%\" \
     %UPSTREAM_CLUSTER_RAW% ",
    "%UPSTREAM_LOCAL_ADDRESS% %DOWNSTREAM_LOCAL_ADDRESS% %DOWNSTREAM_REMOTE_ADDRESS% \
     %REQUESTED_SERVER_NAME% ",
    "%ROUTE_NAME% ",
    "\"%FILTER_STATE(wasm.tollgate.shadowed:PLAIN)%\" %FILTER_STATE(wasm.tollgate.shadow_headers:PLAIN)%\n"
);

/// A gateway's port; none if the pod does not listen for it.
pub(super) fn gateway(proxy: &Proxy, listener: &routing::Listener) -> Option<Value> {
    let here = *proxy.here.gateway.get(&listener.port)?;
    let name = listener_name("0.0.0.0", listener.port);
    let topology = &proxy.workload.topology;
    let manager = connection_manager(
        proxy,
        &format!("outbound_{name};"),
        Traffic::Gateway(listener.port),
        json!({
            "rds": rds(proxy, &route::gateway_name(listener.port)),
            // Who connects, or whom so many proxies before this one saw: never what clients say of themselves.
            "use_remote_address": true,
            "xff_num_trusted_hops": topology.trusted_proxies.unwrap_or(0),
            "http_protocol_options": {},
            "proxy_100_continue": true,
            "server_name": "istio-envoy",
            "forward_client_cert_details": client_certificates(topology.client_certificates),
            "set_current_client_cert_details": { "subject": true, "cert": true, "dns": true, "uri": true },
        }),
    );
    Some(json!({
        "name": name,
        "address": address(here),
        "traffic_direction": "OUTBOUND",
        "max_connections_to_accept_per_socket_event": 1,
        "filter_chains": [{ "transport_socket_connect_timeout": "15s", "filters": [manager] }],
    }))
}

/// `HttpConnectionManager.ForwardClientCertDetails`.
fn client_certificates(details: ForwardClientCertDetails) -> &'static str {
    match details {
        ForwardClientCertDetails::Undefined | ForwardClientCertDetails::SanitizeSet => {
            "SANITIZE_SET"
        }
        ForwardClientCertDetails::Sanitize => "SANITIZE",
        ForwardClientCertDetails::ForwardOnly => "FORWARD_ONLY",
        ForwardClientCertDetails::AppendForward => "APPEND_FORWARD",
        ForwardClientCertDetails::AlwaysForwardOnly => "ALWAYS_FORWARD_ONLY",
    }
}

/// What comes to the application, per port of its containers.
pub(super) fn inbound(proxy: &Proxy) -> Vec<Value> {
    let ports = proxy.workload.ports().into_iter();
    ports
        .filter_map(|port| {
            proxy
                .here
                .inbound
                .get(&port)
                .map(|here| inbound_port(proxy, port, *here))
        })
        .collect()
}

fn inbound_port(proxy: &Proxy, port: u16, here: SocketAddr) -> Value {
    let name = listener_name("0.0.0.0", port);
    let manager = connection_manager(
        proxy,
        &format!("inbound_{name};"),
        Traffic::Inbound(port),
        json!({
            "route_config": route::inbound(port),
            "use_remote_address": false,
            "proxy_100_continue": true,
            "server_name": "istio-envoy",
            "forward_client_cert_details": "APPEND_FORWARD",
            "set_current_client_cert_details": { "subject": true, "dns": true, "uri": true },
        }),
    );
    let chain = |matches: Value, socket: Option<Value>| {
        let mut chain =
            json!({ "name": name, "filter_chain_match": matches, "filters": [manager] });
        if let Some(socket) = socket {
            chain["transport_socket"] = socket;
        }
        chain
    };
    let with_tls = || {
        chain(
            json!({ "transport_protocol": "tls" }),
            Some(tls::downstream(proxy)),
        )
    };
    let with_mesh_tls = || {
        let matches =
            json!({ "transport_protocol": "tls", "application_protocols": tls::MESH_PROTOCOLS });
        chain(matches, Some(tls::downstream(proxy)))
    };
    let plain = || chain(json!({ "transport_protocol": "raw_buffer" }), None);
    // A connection that no chain matches is closed: that is how STRICT refuses plain ones.
    let (chains, looks_for_tls) = match proxy.workload.mutual_tls {
        MutualTls::Strict => (vec![with_tls()], true),
        MutualTls::Permissive => (vec![with_mesh_tls(), plain()], true),
        MutualTls::Disable => (vec![plain()], false),
    };
    let mut listener = json!({
        "name": name,
        "address": address(here),
        "traffic_direction": "INBOUND",
        "continue_on_listener_filters_timeout": true,
        "listener_filters_timeout": "0s",
        "max_connections_to_accept_per_socket_event": 1,
        "filter_chains": chains,
    });
    if looks_for_tls {
        listener["listener_filters"] = json!([{
            "name": "envoy.filters.listener.tls_inspector",
            "typed_config": { "@type": "type.googleapis.com/envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector" },
        }]);
    }
    listener
}

/// What the application sends: it takes the sidecar for its HTTP proxy.
pub(super) fn outbound(proxy: &Proxy, here: SocketAddr) -> Value {
    let name = listener_name(&here.ip().to_string(), here.port());
    let manager = connection_manager(
        proxy,
        &format!("outbound_{name};"),
        Traffic::Outbound,
        json!({
            "rds": rds(proxy, HTTP_PROXY),
            "use_remote_address": false,
            "http_protocol_options": { "allow_absolute_url": true },
        }),
    );
    json!({
        "name": name,
        "address": address(here),
        "traffic_direction": "OUTBOUND",
        "continue_on_listener_filters_timeout": true,
        "listener_filters_timeout": "0s",
        "max_connections_to_accept_per_socket_event": 1,
        "filter_chains": [{ "transport_socket_connect_timeout": "15s", "filters": [manager] }],
    })
}

/// Istio's `0.0.0.0_8080`. The port is that on a cluster, so that stats and logs have the same names here, wherever the
/// listener has its socket.
fn listener_name(bind: &str, port: u16) -> String {
    format!("{bind}_{port}")
}

fn rds(proxy: &Proxy, name: &str) -> Value {
    json!({ "config_source": file_source(proxy, &route_file(name)), "route_config_name": name })
}

/// What all of Istio's connection managers have, and `own`.
fn connection_manager(proxy: &Proxy, stat_prefix: &str, traffic: Traffic, own: Value) -> Value {
    let mut manager = json!({
        "@type": HTTP_CONNECTION_MANAGER,
        "codec_type": "AUTO",
        "stat_prefix": stat_prefix,
        "normalize_path": true,
        "path_with_escaped_slashes_action": "KEEP_UNCHANGED",
        "stream_idle_timeout": "0s",
        "upgrade_configs": [{ "upgrade_type": "websocket" }],
        "access_log": [{
            "name": "envoy.access_loggers.stdout",
            "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.access_loggers.stream.v3.StdoutAccessLog",
                "log_format": { "text_format_source": { "inline_string": ACCESS_LOG_FORMAT } },
            },
        }],
        "http_filters": http_filters(proxy, traffic),
    });
    if let Value::Object(own) = own {
        for (name, value) in own {
            manager[name] = value;
        }
    }
    json!({ "name": "envoy.filters.network.http_connection_manager", "typed_config": manager })
}

/// Istio's order: what a phase of plugins is called by is what comes behind it. Fault and CORS do nothing until a route asks
/// for them; they stand here so that a route can.
fn http_filters(proxy: &Proxy, traffic: Traffic) -> Vec<Value> {
    let filter = |name: &str, type_url: &str, config: Value| {
        let mut typed: Map<String, Value> = Map::new();
        typed.insert(
            "@type".to_owned(),
            json!(format!("type.googleapis.com/{type_url}")),
        );
        if let Value::Object(config) = config {
            typed.extend(config);
        }
        json!({ "name": name, "typed_config": typed })
    };
    let wasm = |phases: &[PluginPhase]| extension::filters(proxy, traffic, phases);
    let mut filters = wasm(&[PluginPhase::Authn]);
    filters.extend(jwt::filter(proxy, traffic));
    filters.extend(wasm(&[PluginPhase::Authz]));
    filters.extend(rbac::filters(proxy, traffic));
    filters.extend(wasm(&[PluginPhase::Stats, PluginPhase::Unspecified]));
    filters.extend([
        filter(
            "envoy.filters.http.grpc_stats",
            "envoy.extensions.filters.http.grpc_stats.v3.FilterConfig",
            json!({ "emit_filter_state": true, "stats_for_all_methods": false }),
        ),
        filter(route::FAULT, route::FAULT_TYPE, json!({})),
        filter(
            "envoy.filters.http.cors",
            "envoy.extensions.filters.http.cors.v3.Cors",
            json!({}),
        ),
        filter(
            "envoy.filters.http.router",
            "envoy.extensions.filters.http.router.v3.Router",
            json!({}),
        ),
    ]);
    filters
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cluster_logs_the_same() {
        let values = include_str!("../../../istio/install/values.yaml");
        let format = format!("\n  accessLogFormat: |\n    {ACCESS_LOG_FORMAT}");
        assert!(values.contains(&format), "{values}");
    }
}
