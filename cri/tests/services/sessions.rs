//! The streaming server with an engine of fakes: WebSocket by another implementation, and what the calls refuse.

use futures_util::{SinkExt as _, StreamExt as _};
use podwright_cri_api::v1;
use serde_json::Value;
use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tonic::Code;

use crate::support::Front;

async fn running(front: &Front) -> String {
    let pod = front.run_pod("streams").await;
    let id = front.create(&pod, "main").await;
    front.runtime().start_container(v1::StartContainerRequest { container_id: id.clone() }).await.unwrap();
    id
}

fn exec(id: &str, command: &[&str]) -> v1::ExecRequest {
    let cmd = command.iter().map(|word| (*word).to_owned()).collect();
    v1::ExecRequest { container_id: id.to_owned(), cmd, stdin: true, stdout: true, stderr: false, tty: false }
}

async fn socket(front: &Front, request: v1::ExecRequest, protocol: &str) -> WebSocketStream<TcpStream> {
    let url = front.runtime().exec(request).await.unwrap().into_inner().url;
    let mut request = url.replace("http://", "ws://").into_client_request().unwrap();
    request.headers_mut().insert("Sec-WebSocket-Protocol", protocol.parse().unwrap());
    let stream = TcpStream::connect(request.uri().authority().unwrap().as_str()).await.unwrap();
    let (socket, response) = tokio_tungstenite::client_async(request, stream).await.unwrap();
    assert_eq!(response.headers()["Sec-WebSocket-Protocol"], protocol);
    socket
}

/// All messages up to the orderly end.
async fn all(mut socket: WebSocketStream<TcpStream>) -> Vec<Vec<u8>> {
    let mut messages = Vec::new();
    loop {
        match socket.next().await.unwrap().unwrap() {
            Message::Close(frame) => {
                assert_eq!(u16::from(frame.unwrap().code), 1000);
                return messages;
            }
            message => messages.push(message.into_data().to_vec()),
        }
    }
}

#[tokio::test]
async fn v5_ends_input_by_a_message() {
    let front = Front::start().await;
    let id = running(&front).await;
    let mut socket = socket(&front, exec(&id, &["cat"]), "v5.channel.k8s.io").await;
    socket.send(Message::binary(&b"\x00hello"[..])).await.unwrap();
    socket.send(Message::binary(&b"\xff\x00"[..])).await.unwrap();
    let messages = all(socket).await;
    assert_eq!(messages[0], [1], "a word at the beginning");
    assert_eq!(messages[1], b"\x01hello");
    let (channel, status) = messages[2].split_first().unwrap();
    let status: Value = serde_json::from_slice(status).unwrap();
    assert_eq!((*channel, &status["status"]), (3, &Value::from("Success")));
}

#[tokio::test]
async fn base64_is_spoken_and_exit_codes_are_told() {
    let front = Front::start().await;
    let id = running(&front).await;
    let messages = all(socket(&front, exec(&id, &["false"]), "v4.base64.channel.k8s.io").await).await;
    assert_eq!(messages[0], b"1");
    assert!(messages[1].starts_with(b"3ey"), "a document in base64 on the error channel: {messages:?}");
    let messages = all(socket(&front, exec(&id, &["false"]), "channel.k8s.io").await).await;
    assert_eq!(messages[1], b"\x03command terminated with exit code 1");
}

#[tokio::test]
async fn calls_refuse_what_cannot_be_streamed() {
    let front = Front::start().await;
    let id = running(&front).await;
    let mut runtime = front.runtime();
    let code = async |request: v1::ExecRequest| front.runtime().exec(request).await.unwrap_err().code();
    assert_eq!(code(exec(&"0".repeat(64), &["true"])).await, Code::NotFound);
    assert_eq!(code(exec(&id, &[])).await, Code::InvalidArgument);
    let both = v1::ExecRequest { tty: true, stderr: true, ..exec(&id, &["true"]) };
    assert_eq!(code(both).await, Code::InvalidArgument);
    let none = v1::ExecRequest { stdin: false, stdout: false, ..exec(&id, &["true"]) };
    assert_eq!(code(none).await, Code::InvalidArgument);

    runtime.stop_container(v1::StopContainerRequest { container_id: id.clone(), timeout: 0 }).await.unwrap();
    assert_eq!(code(exec(&id, &["true"])).await, Code::FailedPrecondition);
    let attach = v1::AttachRequest { container_id: id, stdout: true, ..Default::default() };
    assert_eq!(runtime.attach(attach).await.unwrap_err().code(), Code::FailedPrecondition);

    let pod = front.run_pod("forward").await;
    let bad = v1::PortForwardRequest { pod_sandbox_id: pod.clone(), port: vec![70_000] };
    assert_eq!(runtime.port_forward(bad).await.unwrap_err().code(), Code::InvalidArgument);
    runtime.stop_pod_sandbox(v1::StopPodSandboxRequest { pod_sandbox_id: pod.clone() }).await.unwrap();
    let stopped = v1::PortForwardRequest { pod_sandbox_id: pod, port: vec![] };
    assert_eq!(runtime.port_forward(stopped).await.unwrap_err().code(), Code::FailedPrecondition);
}
