//! How a peer is reached: by name servers of the check's own, at a fixed address, over redirects.

use std::net::SocketAddr;

use tokio::net::UdpSocket;

use super::dns::{Does, a, name_server};
use super::tls::{NOW, TO_2100, ca_file, expires_in, probed_in, tls_server, trusted};
use super::*;

#[tokio::test]
async fn a_peer_is_resolved_by_the_servers_of_its_check() {
    let (web, asked) = server(vec![OK]).await;
    let silent = UdpSocket::bind("127.0.0.1:0").await.expect("a port").local_addr().expect("bound");
    let names = name_server(Does::Answers(vec![a("shop.internal", 1)])).await;
    let by = |servers: &[SocketAddr]| Reach { address: None, servers: servers.to_vec() };
    let url = format!("http://shop.internal:{}/", web.port());
    let with = |reach: Reach| {
        let mut kind = http(&url);
        if let CheckKind::Http { reach: own, .. } = &mut kind {
            *own = reach;
        }
        check(kind)
    };
    // the first one is not there: the next knows
    assert_eq!(probed(with(by(&[silent, names])), vec![]).await.reason, None);
    assert_eq!(asked.load(Ordering::SeqCst), 1);
    let seen = probed(with(by(&[silent])), vec![]).await;
    assert_eq!(seen.message, format!("{url}: name server {silent}: connection refused"));
    assert_eq!(seen.reason, Some(FailureReason::Dns));
    let address = format!("shop.internal:{}", web.port());
    let tcp = |reach: Reach| check(CheckKind::Tcp { address: address.clone(), reach });
    assert_eq!(probed(tcp(by(&[names])), vec![]).await.reason, None);
    let none = name_server(Does::Answers(vec![])).await;
    let seen = probed(tcp(by(&[none])), vec![]).await;
    assert_eq!(seen.message, format!("{address}: `shop.internal` has no address"));
}

#[tokio::test]
async fn an_address_stands_in_for_resolving() {
    let (authority, dir) = trusted();
    let web = tls_server(&authority, &["shop.internal"], NOW).await;
    let at = |address: &str| Reach { address: Some(address.to_owned()), servers: Vec::new() };
    let mut kind = http("https://shop.internal/health");
    if let CheckKind::Http { reach, trust, .. } = &mut kind {
        (*reach, *trust) = (at(&web.to_string()), ca_file());
    }
    let seen = probed_in(dir.path(), check(kind.clone()), vec![]).await;
    assert_eq!((seen.reason, expires_in(&seen)), (None, Some(TO_2100)), "{seen:?}");
    if let CheckKind::Http { url, .. } = &mut kind {
        *url = "https://other.internal/".to_owned();
    }
    let seen = probed_in(dir.path(), check(kind), vec![]).await;
    assert_eq!((seen.reason, expires_in(&seen)), (Some(FailureReason::Tls), Some(TO_2100)));
    let why = "the certificate is not for other.internal; it is for shop.internal";
    assert_eq!(seen.message, format!("https://other.internal/: {why}"));
    // the port of the URL, at another address
    let mut kind = http(format!("https://shop.internal:{}/", web.port()));
    if let CheckKind::Http { reach, trust, .. } = &mut kind {
        (*reach, *trust) = (at("127.0.0.1"), ca_file());
    }
    assert_eq!(probed_in(dir.path(), check(kind), vec![]).await.reason, None);
    let to = |address: &str| CheckKind::Tls {
        address: "shop.internal:443".to_owned(),
        server_name: None,
        trust: ca_file(),
        reach: at(address),
    };
    assert_eq!(probed_in(dir.path(), check(to(&web.to_string())), vec![]).await.reason, None);
    let seen = probed_in(dir.path(), check(to("127.0.0.1:{{ port }}")), vec![replica(1, Some(web.port()))]).await;
    assert_eq!((seen.replica, seen.reason), (Some(1), None), "{seen:?}");
    let seen = probed_in(dir.path(), check(to("{{ port }}.0.0.1")), vec![replica(1, Some(web.port()))]).await;
    assert!(seen.message.ends_with("is no IP address"), "{seen:?}");
}

#[tokio::test]
async fn redirects_are_followed_where_asked_for_and_not_for_ever() {
    let follows = |url: String| {
        let mut kind = http(url);
        if let CheckKind::Http { follow_redirects, .. } = &mut kind {
            *follow_redirects = true;
        }
        check(kind)
    };
    let (address, asked) = server(vec![MOVED, MOVED, OK]).await;
    assert_eq!(probed(follows(format!("http://{address}/")), vec![]).await.reason, None);
    assert_eq!(asked.load(Ordering::SeqCst), 3);
    let (address, _) = server(vec![MOVED]).await;
    let seen = probed(follows(format!("http://{address}/")), vec![]).await;
    assert_eq!(seen.reason, Some(FailureReason::Status));
    assert_eq!(seen.message, format!("http://{address}/: redirects more than 10 times"));
}

#[tokio::test]
async fn the_time_to_connect_is_bounded_on_every_way() {
    let names = name_server(Does::Nothing).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let silent = listener.local_addr().expect("bound");
    let by_names = Reach { address: None, servers: vec![names] };
    let mut to_silent = http(format!("https://{silent}/"));
    let mut to_names = http("http://shop.internal/");
    for (kind, own) in [(&mut to_silent, Reach::default()), (&mut to_names, by_names.clone())] {
        if let CheckKind::Http { reach, trust, .. } = kind {
            (*reach, *trust) = (own, Trust::Anybody);
        }
    }
    let tcp = CheckKind::Tcp { address: "shop.internal:80".to_owned(), reach: by_names };
    for (kind, message) in [
        (to_silent, format!("https://{silent}/: no connection in time")),
        (to_names, "http://shop.internal/: no connection in time".to_owned()),
        (tcp, "shop.internal:80: no name resolved within 50ms".to_owned()),
    ] {
        let hurried = Check { connect_timeout: Some(Duration::from_millis(50)), ..check(kind) };
        let seen = probed(hurried, vec![]).await;
        assert_eq!((seen.reason, seen.message), (Some(FailureReason::Timeout), message));
    }
}
