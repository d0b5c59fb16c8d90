//! The service around the resources: keys, unknown paths and methods, the
//! OpenAPI document, metrics, test mode, shedding.

use crate::fake::*;
use axum::body::Body;
use axum::http::{Method, Request};
use hongbao_engine::command::Outcome;
use hongbao_server::app::{Setup, admin_app, routes};
use hongbao_server::faults::Fault;
use hongbao_server::problem::Code;
use hongbao_server::service::OPENAPI;
use serde_json::{Value, json};
use std::collections::BTreeSet;

const OPEN: [(&str, u16); 6] =
    [("/livez", 200), ("/readyz", 200), ("/metrics", 200), ("/openapi.json", 200), ("/docs", 200), ("/", 303)];

fn test_site() -> Site {
    Site::with(&Setup { test: true, ..setup() })
}

#[tokio::test]
async fn every_route_but_the_open_ones_needs_the_key() {
    let site = test_site();
    for (method, path) in routes(&site.server) {
        for key in [None, Some("Bearer wrong"), Some("Basic aGI6"), Some("Bearer ")] {
            let mut request = Request::builder().method(method).uri(path.replace(['{', '}'], ""));
            if let Some(key) = key {
                request = request.header("authorization", key);
            }
            let answer = site.send(request.body(Body::empty()).unwrap()).await;
            let what = format!("{method} {path} with {key:?}");
            if let Some((_, status)) = OPEN.iter().find(|(open, _)| *open == path) {
                assert_eq!(answer.status, *status, "{what}");
            } else {
                answer.assert_problem(401, "unauthorized", &what);
                assert_eq!(answer.header("www-authenticate"), "Bearer", "{what}");
            }
        }
    }
    assert_eq!(site.fake.commands(), []);
}

#[tokio::test]
async fn unknown_paths_and_methods_are_problems() {
    let site = Site::new();
    for (method, path, status, code, allow) in [
        ("POST", "/", 405, "method_not_allowed", "GET,HEAD"),
        ("GET", "/v1", 404, "not_found", ""),
        ("POST", "/v1/envelopes/", 404, "not_found", ""),
        ("POST", "/v1/payouts", 405, "method_not_allowed", "GET,HEAD"),
        ("GET", "/v1/payouts/results", 405, "method_not_allowed", "POST"),
        ("PATCH", "/v1/keys", 405, "method_not_allowed", "POST,GET,HEAD"),
        ("GET", "/v1/keys/x", 405, "method_not_allowed", "DELETE"),
        ("POST", "/v1/test/clock", 404, "not_found", ""),
        ("POST", "/v1/test/faults", 404, "not_found", ""),
        ("DELETE", "/v1/envelopes", 405, "method_not_allowed", "POST,GET,HEAD"),
        ("GET", "/v1/grabs", 405, "method_not_allowed", "POST"),
        ("POST", "/livez", 405, "method_not_allowed", "GET,HEAD"),
        ("OPTIONS", "/v1/wallets/a", 405, "method_not_allowed", "GET,HEAD"),
    ] {
        let what = format!("{method} {path}");
        let answer = site.send(ask(method.parse().unwrap(), path).body(Body::empty()).unwrap()).await;
        answer.assert_problem(status, code, &what);
        let sorted = |text: &str| text.split(',').map(str::to_owned).collect::<BTreeSet<_>>();
        assert_eq!(sorted(answer.header("allow")), sorted(allow), "{what}");
    }
}

#[tokio::test]
async fn requests_have_ids() {
    let site = Site::new();
    for (given, kept) in [("trace-1:2.3_4", true), ("<script>", false), (&"x".repeat(129), false)] {
        let request = ask(Method::GET, "/v1/nothing").header("x-request-id", given);
        let answer = site.send(request.body(Body::empty()).unwrap()).await;
        answer.assert_problem(404, "not_found", given);
        assert_eq!(answer.header("x-request-id") == given, kept, "{given}");
    }
}

#[tokio::test]
async fn the_document_lists_exactly_the_routes() {
    let document: Value = serde_json::from_str(OPENAPI).unwrap();
    let mut documented = BTreeSet::new();
    for (path, methods) in document["paths"].as_object().unwrap() {
        for method in methods.as_object().unwrap().keys().filter(|key| *key != "parameters") {
            documented.insert((method.to_uppercase(), path.clone()));
        }
    }
    let served = routes(&test_site().server);
    let served: BTreeSet<_> = served.iter().map(|(method, path)| (method.to_string(), path.to_string())).collect();
    assert_eq!(documented, served);
}

#[test]
fn the_document_tells_every_code_and_what_any_request_may_get() {
    let document: Value = serde_json::from_str(OPENAPI).unwrap();
    let told = |pointer: &str| document.pointer(pointer).unwrap_or_else(|| panic!("no {pointer}"));
    let codes = Code::ALL.map(|code| code.facts());
    let mut expected: BTreeSet<_> = codes.iter().map(|(_, name, _, _)| *name).collect();
    // The contract has it; no engine answers it today.
    expected.insert("in_progress");
    let listed = told("/components/schemas/Problem/properties/code/enum").as_array().unwrap();
    assert_eq!(listed.iter().map(|code| code.as_str().unwrap()).collect::<BTreeSet<_>>(), expected);
    let mut described = BTreeSet::new();
    for (path, methods) in told("/paths").as_object().unwrap() {
        for (method, operation) in methods.as_object().unwrap() {
            let responses = operation["responses"].as_object().unwrap();
            let everywhere = ["400", "405", "431"].into_iter();
            let needs_no_key = operation["security"].as_array().is_some_and(Vec::is_empty);
            let v1 = ["401", "403", "500"].into_iter().filter(|_| path.starts_with("/v1"));
            let v1 = v1.filter(|status| *status != "403" || !needs_no_key);
            let with_body = ["408", "413", "415"].into_iter().filter(|_| operation.get("requestBody").is_some());
            for status in everywhere.chain(v1).chain(with_body) {
                assert!(responses.contains_key(status), "{method} {path} may be answered {status}");
            }
            for (status, response) in responses {
                let Some(target) = response["$ref"].as_str() else { continue };
                let words = told(&format!("{}/description", &target[1..])).as_str().unwrap();
                let of_status = codes.iter().filter(|(of, ..)| of.as_str() == status);
                described.extend(of_status.map(|(_, name, ..)| *name).filter(|name| words.contains(name)));
            }
        }
    }
    expected.remove("in_progress");
    assert_eq!(described, expected, "each code is told with its status");
}

#[test]
fn the_document_has_an_example_of_every_body_and_answer() {
    let document: Value = serde_json::from_str(OPENAPI).unwrap();
    for (path, methods) in document["paths"].as_object().unwrap() {
        for (method, operation) in methods.as_object().unwrap() {
            let body = Some(&operation["requestBody"]).filter(|body| body["required"] == true);
            let answers = ["200", "201"].into_iter().filter_map(|status| operation["responses"].get(status));
            for told in body.into_iter().chain(answers) {
                let Some(media) = told.pointer("/content/application~1json") else { continue };
                // What the document itself is answered as needs none.
                let Some(named) = media["schema"]["$ref"].as_str() else { continue };
                let schema = document.pointer(named.trim_start_matches('#')).unwrap();
                assert!(media.get("example").is_some() || schema.get("examples").is_some(), "{method} {path}: {told}");
            }
        }
    }
}

#[tokio::test]
async fn every_reference_of_the_document_leads_somewhere() {
    fn walk(value: &Value, document: &Value) {
        match value {
            Value::Object(map) => {
                if let Some(Value::String(target)) = map.get("$ref") {
                    let pointer = target.strip_prefix('#').unwrap();
                    assert!(document.pointer(pointer).is_some(), "{target}");
                }
                map.values().for_each(|value| walk(value, document));
            }
            Value::Array(values) => values.iter().for_each(|value| walk(value, document)),
            _ => {}
        }
    }
    let document: Value = serde_json::from_str(OPENAPI).unwrap();
    walk(&document, &document);
    let site = Site::new();
    assert_eq!(site.get("/openapi.json").await.json(), document);
    assert_eq!(site.get("/").await.header("location"), "/docs");
    let docs = site.get("/docs").await;
    let without_script =
        docs.text().split_once("<noscript>").unwrap().1.split_once("</noscript>").unwrap().0.to_owned();
    assert!(without_script.contains(r#"href="/openapi.json""#), "{without_script}");
    assert_eq!(docs.header("content-type"), "text/html; charset=utf-8");
    for outside in ["http://", "https://", "src=", "@import"] {
        assert!(!docs.text().contains(outside), "the documentation must work offline, but has {outside}");
    }
}

#[tokio::test]
async fn readiness_says_why_not() {
    let site = Site::new();
    assert_eq!(site.get("/readyz").await.status, 200);
    site.fake.inner.lock().unwrap().not_ready = Some("the clock is behind; run hongbao clock accept".into());
    let problem = site.get("/readyz").await.assert_problem(503, "not_ready", "/readyz");
    assert_eq!(problem["detail"], "the clock is behind; run hongbao clock accept");
    assert!(site.get("/metrics").await.text().lines().any(|line| line == "hongbao_ready 0"));
    assert_eq!(site.get("/livez").await.status, 200);
}

#[tokio::test]
async fn metrics_count_routes_and_outcomes_without_ids() {
    let site = Site::new();
    let path = format!("/v1/envelopes/{}/grab", envelope_id(1));
    site.post(&path, "", r#"{"user":"bob-the-user"}"#).await;
    site.post(&path, "", "{").await;
    site.get("/v1/nowhere-at-all").await;
    let batch = r#"{"grabs":[{"envelope":"env_nonsense","user":"bob-the-user"}]}"#;
    assert_eq!(site.post("/v1/grabs", "", batch).await.status, 200);
    site.server.metrics.gauges([("hongbao_test_gauge", "A gauge of the engine")], || [7.0]);
    let text = site.get("/metrics").await.text();
    let route = r#"method="POST",route="/v1/envelopes/{id}/grab""#;
    for line in [
        format!("hongbao_http_requests_total{{{route},status=\"2xx\"}} 1"),
        format!("hongbao_http_requests_total{{{route},status=\"4xx\"}} 1"),
        r#"hongbao_http_requests_total{method="any",route="none",status="4xx"} 1"#.to_owned(),
        r#"hongbao_outcomes_total{outcome="sold_out"} 1"#.to_owned(),
        r#"hongbao_outcomes_total{outcome="won"} 0"#.to_owned(),
        format!("hongbao_http_request_seconds_count{{{route}}} 2"),
        r#"hongbao_problems_total{code="invalid_json"} 1"#.to_owned(),
        // One of them in a batch, whose answer is 200.
        r#"hongbao_problems_total{code="not_found"} 2"#.to_owned(),
        r#"hongbao_problems_total{code="internal"} 0"#.to_owned(),
        "hongbao_ready 1".to_owned(),
        "hongbao_http_in_flight 1".to_owned(),
        "hongbao_http_shed_total 0".to_owned(),
        "hongbao_test_gauge 7".to_owned(),
    ] {
        assert!(text.lines().any(|it| it == line), "no line {line} in\n{text}");
    }
    for leak in ["env_", "bob-the-user", "nowhere"] {
        assert!(!text.contains(leak), "{leak} in\n{text}");
    }
}

#[tokio::test]
async fn metrics_can_be_served_apart() {
    let site = Site::with(&Setup { metrics_apart: true, ..setup() });
    site.get("/metrics").await.assert_problem(404, "not_found", "/metrics");
    let admin = Site { router: admin_app(site.server.clone()), ..site };
    assert!(admin.get("/metrics").await.text().contains(r#"route="none",status="4xx"} 1"#));
    assert_eq!(admin.get("/readyz").await.status, 200);
    admin.get("/v1/audit").await.assert_problem(404, "not_found", "/v1/audit");
}

#[tokio::test]
async fn test_mode_says_so_and_moves_the_clock() {
    let site = test_site();
    site.fake.script([Ok(Outcome::Clock(NOW))]);
    let answer = site.post("/v1/test/clock", "", r#"{"advance_s":259200}"#).await;
    assert_eq!((answer.status.as_u16(), answer.json()), (200, json!({"now": NOW_TEXT})));
    for path in ["/livez", "/v1/wallets/a", "/v1/nowhere", "/v1/envelopes/x"] {
        assert_eq!(site.get(path).await.header("hongbao-test"), "true", "{path}");
    }
    assert_eq!(Site::new().get("/livez").await.header("hongbao-test"), "");
}

#[tokio::test]
async fn faults_befall_so_many_requests_and_no_more() {
    let site = test_site();
    let plant = async |body: &str| site.post("/v1/test/faults", "", body.to_owned()).await;
    let grab = async || site.post(&format!("/v1/envelopes/{}/grab", envelope_id(1)), "", r#"{"user":"bob"}"#).await;

    let answer = plant(r#"{"fault":"overloaded","count":2}"#).await;
    assert_eq!((answer.status.as_u16(), answer.json()), (200, json!({"fault": "overloaded", "count": 2})));
    for _ in 0..2 {
        assert_eq!(site.get("/livez").await.status, 200, "health is never told to fail");
        let problem = grab().await.assert_problem(503, "overloaded", "a grab");
        assert_eq!(problem["retry"], "after");
    }
    assert_eq!(site.fake.commands(), [], "what was shed was not carried out");
    assert_eq!(grab().await.status, 200);

    plant(r#"{"fault":"overloaded","count":5}"#).await;
    plant(r#"{"fault":"overloaded","count":0}"#).await;
    assert_eq!(grab().await.status, 200, "none takes back what was told");

    plant(r#"{"fault":"slow","count":1}"#).await;
    let since = std::time::Instant::now();
    assert_eq!(grab().await.status, 200);
    assert!(since.elapsed() >= hongbao_server::faults::SLOW, "it waits first");
    assert!(!site.server.faults().unwrap().befalls(Fault::Slow), "and was the only one");

    for (body, field) in [
        (r#"{"fault":"flood","count":1}"#, "fault"),
        (r#"{"fault":"slow","count":-1}"#, "count"),
        (r#"{"fault":"slow","count":1000001}"#, "count"),
        (r#"{"fault":"slow"}"#, "count"),
        (r#"{"count":1}"#, "fault"),
        (r#"{"fault":"slow","count":1,"for":"bob"}"#, "for"),
    ] {
        let problem = plant(body).await.assert_problem(422, "invalid_field", body);
        assert_eq!(problem["errors"][0]["field"], field, "{body}: {problem}");
    }
    assert_eq!(grab().await.status, 200, "what was refused befalls nobody");
}

#[tokio::test]
async fn too_much_at_once_is_shed_and_settling_has_a_reserve() {
    let site = Site::new();
    let in_flight_max = setup().in_flight_max;
    // Nobody gets a turn until the test says so.
    site.fake.turns.forget_permits(1 << 20);
    let path = |what: &str| format!("/v1/envelopes/{}/{what}", envelope_id(1));
    let site = std::sync::Arc::new(site);
    let post = |path: String| {
        let site = site.clone();
        tokio::spawn(async move { site.post(&path, "", r#"{"user":"bob"}"#).await })
    };
    let waiting: Vec<_> = (0..in_flight_max).map(|_| post(path("grab"))).collect();
    while site.get("/metrics").await.text().lines().all(|line| line != "hongbao_http_in_flight 5") {
        tokio::task::yield_now().await;
    }
    let shed = post(path("grab")).await.unwrap();
    let problem = shed.assert_problem(503, "overloaded", "a fifth grab");
    assert_eq!((shed.header("retry-after"), &problem["retry"]), ("1", &json!("after")));
    let claim = post(path("claim"));
    while site.get("/metrics").await.text().lines().all(|line| line != "hongbao_http_in_flight 6") {
        tokio::task::yield_now().await;
    }
    post(path("claim")).await.unwrap().assert_problem(503, "overloaded", "a claim beyond the reserve");
    for (open, status) in OPEN {
        assert_eq!(site.get(open).await.status, status, "{open}");
    }
    site.fake.turns.add_permits(1 << 20);
    for answer in waiting.into_iter().chain([claim]) {
        assert_eq!(answer.await.unwrap().status, 200);
    }
    assert_eq!(post(path("grab")).await.unwrap().status, 200);
    assert!(site.get("/metrics").await.text().contains("hongbao_http_shed_total 2\n"));
}
