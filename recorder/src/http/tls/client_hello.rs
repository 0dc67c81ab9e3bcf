//! What a client says first: read without taking it from the connection, so that it can still go to the server.

use rustls::server::Acceptor;
use rustls::{CipherSuite, SignatureScheme};

/// Longest first message that is looked at.
const MAX_BYTES: usize = 64 * 1024;

/// What is known of a client's first message.
#[derive(Debug)]
pub(in crate::http) enum FirstFlight {
    /// Not all of it is there.
    Partial,
    /// It is not TLS, or nothing that can be followed.
    Other,
    /// It is there.
    Hello(ClientHello),
}

/// A client's first message of TLS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::http) struct ClientHello {
    /// The server that it wants.
    pub(in crate::http) server_name: Option<String>,
    /// The protocols that it offers, in its order; none when it leaves that open.
    pub(in crate::http) protocols: Option<Vec<Vec<u8>>>,
    /// Whether a certificate and cipher of ours would do for it.
    pub(in crate::http) suits: bool,
}

impl FirstFlight {
    /// Looks at the bytes that have arrived.
    pub(in crate::http) fn of(bytes: &[u8]) -> FirstFlight {
        match bytes.first() {
            None => return FirstFlight::Partial,
            // A handshake record; what else there is, is no HTTPS.
            Some(0x16) => {}
            Some(_) => return FirstFlight::Other,
        }
        let mut acceptor = Acceptor::default();
        let mut rest = bytes;
        loop {
            // Reads a bounded piece at a time.
            let read = acceptor.read_tls(&mut rest);
            match (read, acceptor.accept()) {
                (Ok(_), Ok(Some(accepted))) => return FirstFlight::Hello(ClientHello::of(&accepted.client_hello())),
                (Ok(1..), Ok(None)) if !rest.is_empty() => {}
                (Ok(_), Ok(None)) if bytes.len() < MAX_BYTES => return FirstFlight::Partial,
                _ => return FirstFlight::Other,
            }
        }
    }
}

impl ClientHello {
    fn of(hello: &rustls::server::ClientHello<'_>) -> Self {
        let ciphers = [
            CipherSuite::TLS13_AES_128_GCM_SHA256,
            CipherSuite::TLS13_AES_256_GCM_SHA384,
            CipherSuite::TLS13_CHACHA20_POLY1305_SHA256,
            CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
            CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
            CipherSuite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
        ];
        let suits = hello.cipher_suites().iter().any(|suite| ciphers.contains(suite))
            && hello.signature_schemes().contains(&SignatureScheme::ECDSA_NISTP256_SHA256);
        ClientHello {
            server_name: hello.server_name().map(str::to_owned),
            protocols: hello.alpn().map(|protocols| protocols.map(<[u8]>::to_vec).collect()),
            suits,
        }
    }

    /// What to offer the server in the client's place; none when the client wants something that cannot be followed.
    pub(in crate::http) fn followable(&self) -> Option<Vec<Vec<u8>>> {
        let Some(protocols) = &self.protocols else { return Some(Vec::new()) };
        let offers: Vec<Vec<u8>> =
            protocols.iter().filter(|name| super::HTTP_PROTOCOLS.contains(&name.as_slice())).cloned().collect();
        (!offers.is_empty()).then_some(offers)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;
    use rustls::crypto::ring::default_provider;
    use rustls::{ClientConfig, ClientConnection, RootCertStore};

    use super::*;

    fn hello_bytes(host: &str, protocols: &[&str]) -> Vec<u8> {
        let mut config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(RootCertStore::empty())
            .with_no_client_auth();
        config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
        let mut connection = ClientConnection::new(Arc::new(config), host.to_owned().try_into().unwrap()).unwrap();
        let mut bytes = Vec::new();
        connection.write_tls(&mut bytes).unwrap();
        bytes
    }

    #[test]
    fn it_is_read_once_it_is_there() {
        let bytes = hello_bytes("api.test", &["h2", "acme-tls/1", "http/1.1"]);
        for border in 0..bytes.len() {
            assert!(matches!(FirstFlight::of(&bytes[..border]), FirstFlight::Partial), "{border}");
        }
        let FirstFlight::Hello(hello) = FirstFlight::of(&bytes) else { panic!("no hello") };
        assert_eq!((hello.server_name.as_deref(), hello.suits), (Some("api.test"), true));
        assert_eq!(hello.followable().unwrap(), [b"h2".to_vec(), b"http/1.1".to_vec()]);
    }

    #[test]
    fn protocols_that_cannot_be_followed_are_told() {
        let check = |host: &str, protocols: &[&str], expected: Option<usize>| {
            let FirstFlight::Hello(hello) = FirstFlight::of(&hello_bytes(host, protocols)) else { panic!("no hello") };
            assert_eq!(hello.followable().map(|offers| offers.len()), expected);
        };
        check("a.test", &[], Some(0));
        check("a.test", &["postgresql"], None);
        check("127.0.0.1", &["http/1.1"], Some(1));
        for other in [&b"GET / HTTP/1.1\r\n\r\n"[..], b"\0", b"\x16\x03\x01\x00\x05\x63\0\0\x01\0"] {
            assert!(matches!(FirstFlight::of(other), FirstFlight::Other), "{other:?}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(mut bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = FirstFlight::of(&bytes);
            bytes.splice(0..0, [0x16, 3, 1]);
            let _ = FirstFlight::of(&bytes);
        }
    }
}
