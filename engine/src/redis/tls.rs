//! Certificates for connections that are encrypted.
//!
//! **Invariant:** a server's certificate is always checked.

use super::error::RedisOpenError;
use super::options::RedisTls;
use redis::{Client, ClientTlsConfig, ConnectionAddr, ConnectionInfo, TlsCertificates};
use std::path::Path;

/// Whether these connections are encrypted.
pub(super) fn is_used(login: &ConnectionInfo) -> bool {
    matches!(login.addr(), ConnectionAddr::TcpTls { .. })
}

/// The login, with whom it trusts and who it is.
pub(super) fn with_certificates(login: ConnectionInfo, tls: &RedisTls) -> Result<ConnectionInfo, RedisOpenError> {
    let wrong = |why: &str| Err(RedisOpenError::Option { option: "tls", why: why.to_owned() });
    match login.addr() {
        ConnectionAddr::TcpTls { insecure: true, .. } => {
            return wrong("a certificate that is not checked protects nothing; leave #insecure out of the url");
        }
        ConnectionAddr::TcpTls { .. } => {}
        _ if *tls == RedisTls::default() => return Ok(login),
        _ => return wrong("certificates are for servers with TLS; write rediss://host:port"),
    }
    let identity = match &tls.identity {
        Some(identity) => Some(ClientTlsConfig {
            client_cert: read(&identity.certificate_file)?,
            client_key: read(&identity.key_file)?,
        }),
        None => None,
    };
    let root_cert = tls.ca_file.as_deref().map(read).transpose()?;
    match Client::build_with_tls(login, TlsCertificates { client_tls: identity, root_cert }) {
        Ok(client) => Ok(client.get_connection_info().clone()),
        Err(error) => wrong(&format!("a certificate or key cannot be read: {error}; they have to be in PEM")),
    }
}

fn read(file: &Path) -> Result<Vec<u8>, RedisOpenError> {
    std::fs::read(file)
        .map_err(|error| RedisOpenError::Option { option: "tls", why: format!("{}: {error}", file.display()) })
}
