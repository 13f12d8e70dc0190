//! What is shown, and to whom.

use serde_json::{Value, json};

use crate::browser::{Browser, DESK, DESK_AT_NIGHT, PHONE, View};
use crate::canned::{Canned, healthy, id, large, shard, sink, table};

const HOSTILE: &str = "<img src=x onerror=alert(1)><script>alert(2)</script>";

/// A table in trouble, with every kind of shard.
fn troubled() -> Value {
    let parents = vec![json!({"shard": id(1), "parent": null}), json!({"shard": id(2), "parent": id(1)})];
    let mut settling = shard(&id(4), Some(&id(2)), 200.0);
    settling["state"] = "settling".into();
    let mut grandchild = shard(&id(5), Some(&id(4)), 5.0);
    grandchild["settled_to"] = Value::Null;
    let mut table = table("orders", vec![shard(&id(3), Some(&id(2)), 0.0), settling, grandchild], parents);
    table["lag_seconds"] = 200.0.into();
    table["parked_items"] = 2.into();
    let when = "2026-01-01T11:58:00Z";
    table["parked"] = json!([
        {"item": "0a1b2c3d", "failures": 7, "last_error": "HTTP 400 Bad Request", "since": when, "last_failure": when},
        {"item": "4e5f6071", "failures": 41, "last_error": "HTTP 413 Payload Too Large", "since": when, "last_failure": when},
    ]);
    table["recent_errors"] = json!([
        {"time": when, "code": "DSA-ITEM-PARKED", "text": "item 0a1b2c3d is parked behind event 3f2a, other items continue: HTTP 400 Bad Request"},
        {"time": when, "code": "DSA-AWS-THROTTLED", "text": "GetRecords was refused (ThrottlingException): Rate exceeded"},
    ]);
    table["last_errors"]["sink"] = "HTTP 400 Bad Request".into();
    table
}

fn failing(tables: Vec<Value>) -> Value {
    let mut status = healthy(tables);
    status["not_ready"] = "table orders: the sink has accepted nothing for 61 s: HTTP 503".into();
    status["sink"]["state"] = "failing".into();
    status["sink"]["failing_since"] = "2026-01-01T11:00:00Z".into();
    status["sink"]["last_error"] = "HTTP 503".into();
    status
}

#[tokio::test(flavor = "multi_thread")]
async fn tables_shards_parked_items_and_errors_are_shown() {
    let port = Canned::serve(healthy(vec![troubled(), table("users", vec![shard(&id(9), None, 0.0)], vec![])])).await;
    let mut browser = Browser::open_live(&port.url(), DESK);
    let rows = browser.see("[...document.querySelectorAll('#tables tbody tr')].map(row => row.cells[0].innerText)");
    assert_eq!(rows, json!(["orders", "users"]));
    assert_eq!(browser.text("#version"), "1.2.3");
    assert_eq!(browser.text("#lag dd"), "3 min");
    assert_eq!(browser.text("#parked dd"), "2");
    assert_eq!(browser.text("#sink dd"), "up");
    let shards = "[...document.querySelectorAll('#table-0 details tbody th')].map(cell => cell.innerText)";
    assert_eq!(browser.see(shards), json!([id(3), id(4), id(5)]));
    let parked = browser.text("#table-0 .parked tbody");
    assert!(parked.contains("0a1b2c3d") && parked.contains("41") && parked.contains("413 Payload"), "{parked}");
    assert!(browser.text("#table-0 .errors").contains("DSA-AWS-THROTTLED"));
    assert!(browser.text("#table-1").contains("None since the start."));
    browser.shoot("overview", false);
    browser.close();
}

/// A healthy adapter whose sink has these members.
fn with_sink(members: Value) -> Value {
    let mut status = healthy(vec![table("users", vec![shard(&id(9), None, 0.0)], vec![])]);
    status["sink"] = sink();
    for (name, value) in members.as_object().unwrap() {
        status["sink"][name] = value.clone();
    }
    status
}

#[tokio::test(flavor = "multi_thread")]
async fn the_tile_of_the_sink_says_what_limits_it() {
    let until = "2026-01-01T12:00:30Z";
    let mut refusing =
        with_sink(json!({"state": "refusing", "failing_since": until, "last_error": "HTTP 400 Bad Request"}));
    refusing["dead_letter_sink"] = sink();
    refusing["dead_letter_sink"]["state"] = "failing".into();
    refusing["dead_letter_sink"]["failing_since"] = until.into();
    let limited = json!({"rate": 489.6, "capacity": 500.0, "limited_by": "congestion"});
    let mut hot = with_sink(json!({"rate": 4.25, "limited_by": "congestion"}));
    hot["longest_lane"] = json!({"item": "0a1b2c3d", "events": 1200});
    let cases = [
        (with_sink(limited), "limited", "good", "limited to 490/s", "it takes 500/s: http://broker.example"),
        (hot, "hot", "good", "limited to 4.3/s", "http://broker.example"),
        (with_sink(json!({"rate": 490.0, "paused_until": until})), "paused", "", "paused until ", "asked by the sink"),
        (
            refusing,
            "refusing",
            "bad",
            "refusing",
            "HTTP 400 Bad Request (http://broker.example). Dead-letter sink failing",
        ),
    ];
    for (status, name, kind, value, more) in cases {
        let port = Canned::serve(status).await;
        for view in [DESK, PHONE] {
            let mut browser = Browser::open_live(&port.url(), view);
            let tile = browser.text("#sink");
            assert!(tile.contains(value) && tile.contains(more), "{name}: {tile}");
            assert_eq!(browser.see("document.getElementById('sink').className"), kind, "{name}");
            let waiting = browser.text("#unsettled .more");
            assert_eq!(waiting.contains("item 0a1b2c3d: 1,200, one after the other"), name == "hot", "{waiting}");
            fits(&mut browser, name);
            browser.shoot(&format!("sink-{name}"), false);
            browser.close();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_picture_shows_children_below_their_parents_and_of_finished_shards_the_youngest() {
    let port = Canned::serve(healthy(vec![troubled()])).await;
    let mut browser = Browser::open_live(&port.url(), DESK);
    let boxes = browser.see(
        "[...document.querySelectorAll('#table-0 g.shard')].map(g => { const b = g.querySelector('rect').getBBox();
            return [g.querySelector('title').textContent.slice(0, 37), b.x, b.x + b.width, b.y, b.y + b.height]; })",
    );
    let place = |number: usize| -> Vec<f64> {
        let found = boxes.as_array().unwrap().iter().find(|one| one[0] == id(number).as_str());
        let found = found.unwrap_or_else(|| panic!("{} is not drawn: {boxes}", id(number)));
        found.as_array().unwrap()[1..].iter().map(|edge| edge.as_f64().unwrap()).collect()
    };
    for (child, parent) in [(3, 2), (4, 2), (5, 4)] {
        let (child, parent) = (place(child), place(parent));
        assert!(child[0] >= parent[0] && child[1] <= parent[1] && child[2] > parent[3], "{child:?} {parent:?}");
    }
    assert!(place(3)[1] <= place(4)[0], "children cover each other");
    assert_eq!(boxes.as_array().unwrap().len(), 4, "the finished grandparent is only counted: {boxes}");
    assert!(browser.see("document.querySelector('svg').textContent").as_str().unwrap().contains("+1 earlier"));
    let caption = browser.text("#table-0 figcaption");
    assert!(caption.contains("3 open shards in 1 lineage, 2 open generations"), "{caption}");
    assert!(
        caption.contains(&format!("1 a minute or more behind: {} by 3 min", &id(4)[id(4).len() - 8..])),
        "{caption}"
    );
    let name =
        browser.see("document.getElementById(document.querySelector('svg').getAttribute('aria-labelledby')).innerText");
    assert_eq!(name, caption, "the picture has no text for those who do not see it");
    browser.close();
}

#[tokio::test(flavor = "multi_thread")]
async fn hundreds_of_shards_stay_readable_on_a_desk_and_on_a_phone() {
    let port = Canned::serve(healthy(vec![large(264, 6)])).await;
    for (view, name, tallest) in
        [(DESK, "300-desk", 420.0), (PHONE, "300-phone", 900.0), (DESK_AT_NIGHT, "300-night", 420.0)]
    {
        let mut browser = Browser::open_live(&port.url(), view);
        let boxes = browser.see("[...document.querySelectorAll('rect.box')].map(box => box.getBBox().width)");
        let boxes: Vec<f64> = serde_json::from_value(boxes).unwrap();
        assert_eq!(boxes.len(), 302);
        assert!(boxes.iter().all(|width| *width >= 7.0), "{name}: {boxes:?}");
        let height = browser.see("document.querySelector('svg').getBoundingClientRect().height").as_f64().unwrap();
        assert!(height > 100.0 && height < tallest, "{name}: {height}");
        fits(&mut browser, name);
        assert_eq!(browser.see("document.querySelector('details.shards').open"), false, "{name}");
        browser.shoot(name, false);
        browser.close();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_others_have_named_is_shown_as_text() {
    let circle = [
        shard(HOSTILE, Some(HOSTILE), 100.0),
        shard("chicken", Some("egg"), 0.0),
        shard("egg", Some("chicken"), 0.0),
        shard("heir", Some("a"), 0.0),
    ];
    let ancestors = vec![json!({"shard": "a", "parent": "b"}), json!({"shard": "b", "parent": "a"})];
    let mut hostile = table(HOSTILE, circle.to_vec(), ancestors);
    hostile["not_ready"] = HOSTILE.into();
    hostile["last_errors"]["sink"] = HOSTILE.into();
    hostile["parked"] =
        json!([{"item": HOSTILE, "failures": 1, "last_error": HOSTILE, "since": HOSTILE, "last_failure": HOSTILE}]);
    hostile["recent_errors"] = json!([{"time": HOSTILE, "code": HOSTILE, "text": HOSTILE}]);
    let mut status = healthy(vec![hostile]);
    status["version"] = HOSTILE.into();
    status["sink"]["url"] = HOSTILE.into();
    let port = Canned::serve(status).await;
    let mut browser = Browser::open_live(&port.url(), DESK);
    assert_eq!(browser.see("document.querySelectorAll('img, iframe, script:not(body > script)').length"), 0);
    for selector in
        ["#version", "#table-0 h2", "#tables tbody th", "#table-0 details tbody th", "#table-0 .parked tbody th"]
    {
        assert_eq!(browser.text(selector), HOSTILE, "{selector}");
    }
    let listed = browser.see("[...document.querySelectorAll('#table-0 details tbody th')].map(cell => cell.innerText)");
    assert_eq!(listed, json!([HOSTILE, "chicken", "egg", "heir"]), "impossible lineages are listed, if not drawn");
    fits(&mut browser, "hostile");
    browser.close();
}

/// What would be wrong with the script, the policy still prevents.
#[tokio::test(flavor = "multi_thread")]
async fn the_policy_stops_markup_that_a_mistake_would_let_through() {
    let port = Canned::serve(healthy(vec![])).await;
    let mut browser = Browser::open_live(&port.url(), DESK);
    let try_it =
        "(() => { try { document.body.innerHTML = '<b>x</b>'; return 'done'; } catch (e) { return e.name; } })()";
    assert_eq!(browser.see(try_it), "TypeError");
    let elsewhere = "fetch('http://127.0.0.1:9/').then(() => 'done', error => error.name)";
    assert_eq!(browser.see(elsewhere), "TypeError");
    browser.close_expecting(|message| message.contains("Content Security Policy") || message.contains("TrustedHTML"));
}

#[tokio::test(flavor = "multi_thread")]
async fn everybody_can_use_it_by_day_and_by_night_and_on_a_phone() {
    let port = Canned::serve(failing(vec![troubled(), large(20, 2)])).await;
    let phone_at_night = View { dark: true, ..PHONE };
    for (view, name) in [(DESK, "desk"), (DESK_AT_NIGHT, "night"), (PHONE, "phone"), (phone_at_night, "phone-night")] {
        let mut browser = Browser::open_live(&port.url(), view);
        browser.shoot(name, true);
        browser.is_accessible(name);
        fits(&mut browser, name);
        let sink = browser.text("#sink");
        assert!(sink.contains("failing\nsince") && sink.contains("HTTP 503"), "{name}: {sink}");
        assert!(browser.text("#ready").contains("not ready"), "{name}");
        browser.close();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_keyboard_reaches_everything_that_can_be_used() {
    let port = Canned::serve(healthy(vec![large(20, 2)])).await;
    let mut browser = Browser::open_live(&port.url(), DESK);
    let mut reached = Vec::new();
    for _ in 0..10 {
        browser.press("Tab");
        let now = "(e => `${e.tagName} ${e.getAttribute('aria-label') ?? ''}`)(document.activeElement)";
        reached.push(browser.see(now).as_str().unwrap().to_owned());
        if reached.last().unwrap().starts_with("SUMMARY") {
            break;
        }
    }
    assert_eq!(reached.iter().filter(|one| one.starts_with("A ")).count(), 4, "three pages and a table: {reached:?}");
    assert!(reached.iter().any(|one| one.starts_with("SUMMARY")), "{reached:?}");
    browser.press("Enter");
    browser.wait("document.querySelector('details.shards').open");
    browser.press("Tab");
    assert_eq!(browser.see("document.activeElement.getAttribute('aria-label')"), "Shards of orders");
    browser.close();
}

/// Nothing but tables may be wider than the window, and those scroll by themselves.
fn fits(browser: &mut Browser, what: &str) {
    let wide = browser.see("[document.documentElement.scrollWidth, window.innerWidth]");
    assert!(wide[0].as_u64() <= wide[1].as_u64(), "{what}: {wide}");
}
