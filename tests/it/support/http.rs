//! What the HTTP listener says.

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use super::{gateway::Gateway, wait};

/// The status line and the body that `path` is answered with.
pub(crate) async fn get(gateway: &Gateway, path: &str) -> (String, String) {
    let mut tcp = TcpStream::connect(&gateway.ready().http_addr)
        .await
        .unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
    tcp.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    wait::within("answer", tcp.read_to_string(&mut answer))
        .await
        .unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head and a body");
    (
        head.lines().next().unwrap_or_default().to_owned(),
        body.to_owned(),
    )
}

/// The value of a metric: its line without the value is `series`.
pub(crate) fn value_of(metrics: &str, series: &str) -> f64 {
    let line = metrics.lines().find_map(|line| {
        let (name, value) = line.rsplit_once(' ')?;
        (name == series).then_some(value)
    });
    let value = line.unwrap_or_else(|| panic!("{series} is among:\n{metrics}"));
    value.parse().unwrap()
}
