//! Payments outside of a server that is killed: between its request to the gateway and the reply, and while somebody pays.

use crate::backup::is_clean;
use crate::book::text;
use crate::client::{Ask, Client};
use crate::process::{Running, hongbao, serve};
use serde_json::{Value, json};
use std::io::Read;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(60);

struct Place {
    directory: tempfile::TempDir,
    gateway: SocketAddr,
}

impl Place {
    fn at(&self, name: &str) -> String {
        self.directory.path().join(name).to_str().unwrap().to_owned()
    }

    fn serve(&self) -> (Running, Client) {
        let terms = format!("shop,url=http://{},secret_file={}", self.gateway, self.at("secret"));
        let data = self.at("data");
        let (server, address) = Running::ready(&mut serve(Path::new(&data), &["--payments", &terms]));
        (server, Client::new(address))
    }

    /// A gateway that takes payments, and tells of none by itself.
    fn sandbox(&self) -> Running {
        let (listen, secret) = (self.gateway.to_string(), self.at("secret"));
        let words = ["sandbox-gateway", "--listen", &listen, "--secret-file", &secret, "--fault", "lost=1"];
        let sandbox = Running::start(hongbao().args(words));
        sandbox.printed(|printed| printed.contains("listens").then_some(()));
        sandbox
    }
}

fn until(client: &mut Client, payment: &str, state: &str) -> Value {
    let since = Instant::now();
    loop {
        let told = client.json(&Ask::get(format!("/v1/payments/{payment}")));
        if told["state"] == state {
            return told;
        }
        assert!(since.elapsed() < PATIENCE, "it never came to be {state}: {told}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_payment_outlives_a_kill_between_the_request_and_its_reply_and_one_while_it_is_paid() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let place = Place { directory: tempfile::tempdir().unwrap(), gateway: listener.local_addr().unwrap() };
    std::fs::write(place.at("secret"), "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
    let (server, mut client) = place.serve();
    let shop = json!({"id": "rosy", "name": "Rosy", "status": "verified"});
    client.json(&Ask::post("/v1/merchants", &shop).with_key("m"));
    let item = json!({"merchant": "rosy", "name": "roses", "category": "flowers", "price": 10, "stock": 1});
    let item = text(&client.json(&Ask::post("/v1/items", &item).with_key("i")), "id");
    let grab = Ask::post(format!("/v1/items/{item}/grab"), &json!({"user": "bob"})).with_key("g");
    let hold = text(&client.json(&grab), "hold");

    let claim = Ask::post(format!("/v1/holds/{hold}/claim"), &json!({"user": "bob", "pay_with": "shop"}));
    let asking = std::thread::spawn(move || client.send(&claim).is_err());
    let (mut request, _) = listener.accept().unwrap();
    let (mut read, mut part) = (String::new(), [0; 4096]);
    while !read.contains("\"expires_at\"") {
        let bytes = request.read(&mut part).unwrap();
        assert!(bytes > 0, "it broke off: {read}");
        read.push_str(std::str::from_utf8(&part[..bytes]).unwrap());
    }
    server.kill();
    assert!(asking.join().unwrap(), "nobody is answered by a server that is dead");
    let (_, behind) = read.split_once("\"reference\":\"").expect("it says our reference");
    let payment = behind.split('"').next().unwrap().to_owned();
    drop((request, listener));

    let sandbox = place.sandbox();
    let (server, mut client) = place.serve();
    until(&mut client, &payment, "pending");
    server.kill();
    let paid = Client::new(place.gateway).send(&Ask::post(format!("/pay/{payment}"), &json!({})));
    assert_eq!(paid.map(|answer| answer.status).unwrap_or(0), 200);
    let (server, mut client) = place.serve();
    let order = text(&until(&mut client, &payment, "paid"), "order");
    assert_eq!(client.json(&Ask::get(format!("/v1/orders/{order}")))["hold"], json!(hold));
    let audit = client.json(&Ask::get("/v1/audit"));
    assert_eq!((&audit["balanced"], &audit["merchants"], &audit["wallets"]), (&json!(true), &json!(10), &json!(0)));
    server.stop();
    sandbox.kill();
    is_clean(Path::new(&place.at("data")));
}
