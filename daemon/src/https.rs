//! TLS to others, and HTTP clients that speak it: one set of trusted certificates, the system's, in every build. Who is told what is the
//! business of others; the relay's connections are its own.

use std::io;
use std::sync::Arc;

use hyper_rustls::ConfigBuilderExt as _;
use reqwest::ClientBuilder;
use rustls::{ClientConfig, RootCertStore};

/// What trusts those whom the system trusts. Fails where the system has no certificates.
pub(crate) fn trusting_the_system() -> io::Result<ClientConfig> {
    // Named rather than left to the process's default, of which there may be two or none.
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder =
        ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let builder = builder.map_err(io::Error::other)?;
    Ok(builder.with_native_roots()?.with_no_client_auth())
}

/// What trusts nobody, for connections in the clear.
fn trusting_nobody() -> Result<ClientConfig, rustls::Error> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder =
        ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    Ok(builder.with_root_certificates(RootCertStore::empty()).with_no_client_auth())
}

/// A client for the world outside. Without certificates of the system it reaches servers in the clear only, which is logged.
///
/// # Errors
///
/// When no TLS can be set up at all.
pub fn client() -> anyhow::Result<ClientBuilder> {
    let config = trusting_the_system().or_else(|error| {
        tracing::warn!(%error, "the system has no certificates to trust: nobody can be reached by https");
        trusting_nobody()
    });
    Ok(ClientBuilder::new().tls_backend_preconfigured(config?))
}

/// A client for this machine: by no proxy, which is set for the outside world, and in the clear.
///
/// # Errors
///
/// When no TLS can be set up at all.
pub fn local_client() -> anyhow::Result<ClientBuilder> {
    Ok(ClientBuilder::new().no_proxy().tls_backend_preconfigured(trusting_nobody()?))
}
