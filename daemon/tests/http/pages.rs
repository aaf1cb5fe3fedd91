//! The pages, as a browser without JavaScript sees them.

use serde_json::{Value, json};

use crate::stage::Stage;

fn hidden_id(page: &str) -> &str {
    let (_, rest) = page.split_once("name=\"id\" value=\"").expect("a hidden id");
    rest.split('"').next().expect("its end")
}

#[tokio::test]
async fn a_form_posts_once_and_leads_back_to_the_board() {
    let stage = Stage::open(64).await;
    let page = stage.get("/").await.text;
    let form = format!("id={}&author=Ada+%26+Co&text=%3Cb%3Ebold%3C%2Fb%3E", hidden_id(&page));
    for _ in 0..2 {
        let request = stage.http.post(stage.at("/quotes")).header("Origin", &stage.url).body(form.clone());
        let reply = stage.ask(request).await;
        assert_eq!((reply.status, reply.header("location")), (303, Some("/")), "{reply:?}");
    }
    let page = stage.get("/").await.text;
    assert_eq!(page.matches("<li data-seq").count(), 1);
    assert!(page.contains("Ada &#38; Co") && page.contains("&#60;b&#62;bold"), "{page}");
}

#[tokio::test]
async fn a_wrong_field_keeps_what_was_typed_and_says_what_is_wrong_beside_it() {
    let stage = Stage::open(64).await;
    let id = hidden_id(&stage.get("/").await.text).to_owned();
    let reply = stage
        .ask(stage.http.post(stage.at("/quotes")).body(format!("id={id}&author=&text=kept+words")))
        .await;
    assert_eq!(reply.status, 422);
    assert!(reply.text.contains("kept words</textarea>"), "{}", reply.text);
    assert!(reply.text.contains("id=\"author-error\">Author is empty"), "{}", reply.text);
    assert_eq!(hidden_id(&reply.text), id);
}

#[tokio::test]
async fn a_form_without_a_leader_can_be_sent_again_as_it_is() {
    let stage = Stage::open(64).await;
    let id = hidden_id(&stage.get("/").await.text).to_owned();
    stage.lead(false);
    let form = format!("id={id}&author=Ada&text=patient");
    let reply = stage.ask(stage.http.post(stage.at("/quotes")).body(form.clone())).await;
    assert_eq!(reply.status, 503);
    assert!(reply.text.contains("patient</textarea>") && reply.text.contains("No leader"), "{}", reply.text);
    assert_eq!(hidden_id(&reply.text), id);
    stage.lead(true);
    assert_eq!(stage.ask(stage.http.post(stage.at("/quotes")).body(form)).await.status, 303);
}

#[tokio::test]
async fn pages_hold_no_inline_script_or_style_and_ask_nobody_else() {
    let stage = Stage::open(64).await;
    stage.log.quote("http://elsewhere.example is only text");
    for path in ["/", "/cluster", "/?before=1"] {
        let reply = stage.get(path).await;
        let policy = reply.header("content-security-policy").expect("a policy");
        assert!(policy.contains("script-src 'self';") && !policy.contains("unsafe"), "{policy}");
        for forbidden in ["<style", " style=", " onclick=", "<script>", "javascript:"] {
            assert!(!reply.text.contains(forbidden), "{path} has {forbidden}");
        }
        for part in reply.text.split(" src=\"").skip(1) {
            assert!(part.starts_with("/assets/"), "{path} asks for {}", &part[..40]);
        }
    }
}

#[tokio::test]
async fn the_cluster_page_tells_who_is_heard_by_unicast_alone() {
    let stage = Stage::open(64).await;
    let page = stage.get("/cluster").await.text;
    assert_eq!(page.matches("0.4 s ago, by unicast").count(), 1, "{page}");
    assert_eq!(page.matches("by unicast").count(), 1, "of the others it is not said: {page}");
}

#[tokio::test]
async fn the_cluster_page_tells_how_far_a_node_is_that_catches_up() {
    let stage = Stage::open(64).await;
    let page = stage.get("/cluster").await.text;
    assert!(page.contains("catching up: 45 % of the snapshot at 83,112 from n1, 12 MB/s"), "{page}");
    assert_eq!(page.matches("catching up").count(), 1, "{page}");
}

#[tokio::test]
async fn assets_that_a_page_names_can_be_kept_for_ever() {
    let stage = Stage::open(64).await;
    let page = stage.get("/").await.text;
    let mut named = 0;
    for part in page.split("\"/assets/").skip(1) {
        let path = format!("/assets/{}", part.split('"').next().expect("its end"));
        let reply = stage.get(&path).await;
        assert_eq!(reply.status, 200, "{path}");
        assert!(reply.header("cache-control").is_some_and(|keep| keep.contains("immutable")), "{path}");
        named += 1;
    }
    assert!(named >= 3, "{page}");
}

/// The value of the first field of this name.
fn field<'a>(page: &'a str, name: &str) -> &'a str {
    let (_, rest) = page.split_once(&format!("name=\"{name}\" value=\"")).expect("a field");
    rest.split('"').next().expect("its end")
}

/// What stands behind the first `mark`.
fn after<'a>(page: &'a str, mark: &str) -> &'a str {
    page.split_once(mark).expect("the mark").1
}

/// A text up to the end of the attribute in which it begins.
fn value(rest: &str) -> String {
    rest.split('"').next().expect("its end").to_owned()
}

fn escaped(text: &str) -> String {
    percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC).to_string()
}

async fn add(stage: &Stage, path: &str, row: Value) {
    let added = stage.ask(stage.http.post(stage.at(path)).json(&row)).await;
    assert_eq!(added.status, 201, "{added:?}");
}

async fn post(stage: &Stage, path: &str, form: String) -> crate::stage::Reply {
    stage.ask(stage.http.post(stage.at(path)).body(form)).await
}

#[tokio::test]
async fn a_task_that_somebody_else_changed_is_neither_saved_nor_deleted_unseen() {
    let stage = Stage::open(64).await;
    let added = post(&stage, "/tasks", "title=Sweep&created_by=Ada".to_owned()).await;
    assert_eq!((added.status, added.header("location")), (303, Some("/tasks")));
    let seen = stage.get("/tasks/1").await.text;
    let (id, version) = (hidden_id(&seen).to_owned(), field(&seen, "version").to_owned());
    let moved = post(&stage, "/tasks/1", format!("version={version}&status=doing")).await;
    assert_eq!(moved.status, 303);

    let deleted = post(&stage, "/tasks/1/delete", format!("version={version}")).await;
    assert_eq!(deleted.status, 412);
    assert!(deleted.text.contains("Somebody else was quicker.</strong> The task is now as it stands here"));
    assert!(deleted.text.contains("value=\"Sweep\""), "what is there stands in the fields: {}", deleted.text);
    let saved = post(&stage, "/tasks/1", format!("id={id}&version={version}&title=Sweep+well")).await;
    assert_eq!(saved.status, 412);
    assert!(saved.text.contains("what you typed is still in the fields"), "{}", saved.text);
    assert!(saved.text.contains("value=\"Sweep well\""), "{}", saved.text);

    // What the page says is to be done does it.
    let (id, version) = (hidden_id(&saved.text), field(&saved.text, "version"));
    let again = post(&stage, "/tasks/1", format!("id={id}&version={version}&title=Sweep+well")).await;
    assert_eq!(again.status, 303, "{}", again.text);
    let seen = stage.get("/tasks/1").await.text;
    let gone = post(&stage, "/tasks/1/delete", format!("version={}", field(&seen, "version"))).await;
    assert_eq!(gone.status, 303);
    assert!(stage.get("/tasks/1").await.text.contains("It was deleted."));
}

#[tokio::test]
async fn saving_a_task_leaves_what_was_not_changed_as_it_was() {
    let stage = Stage::open(64).await;
    let title = "\u{200f}Sweep\u{200e}";
    let added = post(&stage, "/tasks", format!("title={}&created_by=Ada", escaped(title))).await;
    assert_eq!(added.status, 303);
    let seen = stage.get("/tasks/1").await.text;
    assert!(seen.contains("<h1>⟨U+200F⟩Sweep⟨U+200E⟩</h1>"), "what turns text around is seen: {seen}");
    assert_eq!(field(&seen, "version"), "2");
    let shown =
        after(&seen, "name=\"title\"").split("value=\"").nth(1).and_then(|rest| rest.split('"').next());
    let form = format!("version=2&title={}&assignee=Bob", escaped(shown.expect("a title")));
    assert_eq!(post(&stage, "/tasks/1", form).await.status, 303);
    let task = stage.get("/api/v1/tasks/1").await.json();
    assert_eq!((&task["title"], &task["assignee"]), (&title.into(), &"Bob".into()));
}

#[tokio::test]
async fn what_a_task_cannot_be_is_said_beside_its_field_or_above_them() {
    let stage = Stage::open(64).await;
    post(&stage, "/tasks", "title=Sweep&created_by=Ada".to_owned()).await;
    let too_long = format!("version=2&title=Sweep&assignee={}", "A".repeat(81));
    let refused = post(&stage, "/tasks/1", too_long).await;
    assert_eq!(refused.status, 422);
    assert!(refused.text.contains("id=\"assignee-error\">Who does it has 81 characters"), "{}", refused.text);
    assert!(
        after(&refused.text, "name=\"assignee\"")
            .split('>')
            .next()
            .is_some_and(|tag| tag.contains("aria-invalid"))
    );

    // An id that cannot be one has no place on the page, and does not come again.
    for (path, form) in [
        ("/tasks/1", "version=2&title=Sweep"),
        ("/tasks", "title=Sweep&created_by=Ada"),
        ("/quotes", "author=Ada&text=words"),
        ("/donors", "name=Ada&email=a%40b.example&amount=1&currency=EUR"),
        ("/books/1/purchase", "from=title"),
    ] {
        stage.ask(stage.http.post(stage.at("/api/v1/books/seed"))).await;
        let refused = post(&stage, path, format!("{form}&id=a+b")).await;
        assert_eq!(refused.status, 422, "{path}");
        assert!(refused.text.contains("role=\"alert\""), "{path} says nothing: {}", refused.text);
        let again = post(&stage, path, format!("{form}&id={}", hidden_id(&refused.text))).await;
        assert_eq!(again.status, 303, "{path}: {}", again.text);
    }
}

#[tokio::test]
async fn an_amount_that_is_none_is_not_taken_for_cents() {
    let stage = Stage::open(64).await;
    for amount in ["%2B5", "5.001", "five"] {
        let form = format!("name=Ada&email=a%40b.example&amount={amount}&currency=EUR");
        let refused = post(&stage, "/donors", form).await;
        assert_eq!(refused.status, 422, "{amount}");
        assert!(refused.text.contains("id=\"amount-error\">Amount must be"), "{}", refused.text);
    }
    assert!(stage.get("/donors").await.text.contains("Nothing was given yet."));
    let refused =
        post(&stage, "/donors", "name=Ada&email=a%40b.example&amount=%2B5&currency=EUR".to_owned()).await;
    assert!(
        after(&refused.text, "name=\"amount\"").contains("value=\"+5\""),
        "what was typed: {}",
        refused.text
    );
}

#[tokio::test]
async fn a_copy_whose_purchase_may_have_happened_is_bought_under_the_same_id() {
    let stage = Stage::open(64).await;
    stage.ask(stage.http.post(stage.at("/api/v1/books/seed"))).await;
    let ids = |page: &str| page.split("name=\"id\" value=\"").skip(1).map(value).collect::<Vec<_>>();
    let shelf = stage.get("/books").await.text;
    let pressed = ids(&shelf)[2].clone();
    stage.lead(false);
    let form = format!("id={pressed}&topic=");
    let unknown = post(&stage, "/books/3/purchase", form.clone()).await;
    assert_eq!(unknown.status, 503, "{}", unknown.text);
    let shown: Vec<_> = ids(&unknown.text);
    assert_eq!(shown[2], pressed, "pressed again, it buys once");
    assert_eq!(unknown.text.matches("data-asked").count(), 1);
    assert!(
        shown.iter().zip(ids(&shelf)).filter(|(now, before)| *now == before).count() == 1,
        "the others are new"
    );
    stage.lead(true);
    for _ in 0..2 {
        assert_eq!(post(&stage, "/books/3/purchase", form.clone()).await.status, 303);
    }
    assert!(stage.get("/books").await.text.contains("999 left"));

    // Sold out: the log has decided, and the next press is another purchase.
    let change = stage.http.patch(stage.at("/api/v1/books/3")).json(&json!({ "stock": 0 }));
    assert_eq!(stage.ask(change).await.status, 200);
    let sold_out = post(&stage, "/books/3/purchase", "id=late".to_owned()).await;
    assert_eq!(sold_out.status, 409);
    assert!(!sold_out.text.contains("data-asked") && !sold_out.text.contains("value=\"late\""));
}

#[tokio::test]
async fn a_shelf_goes_on_where_its_page_ends() {
    let stage = Stage::open(64).await;
    for n in 1..=502 {
        let topic = if n > 500 { "Rare" } else { "Common" };
        let book = json!({ "title": format!("Title {n}"), "topic": topic, "cost_minor": 100, "stock": 9 });
        add(&stage, "/api/v1/books", book).await;
    }
    let first = stage.get("/books").await.text;
    assert_eq!(first.matches("<li data-id").count(), 500);
    assert!(first.contains("?topic=Rare"), "topics of titles that stand further on are named");
    assert!(
        after(&first, "id=\"next\"").starts_with(" href=\"/books?after=500\">"),
        "{}",
        after(&first, "id=\"next\"")
    );
    let second = stage.get("/books?after=500").await.text;
    assert_eq!(second.matches("<li data-id").count(), 2);
    assert!(after(&second, "id=\"next\"").split('>').next().is_some_and(|tag| tag.contains("hidden")));
    let rare = stage.get("/books?topic=Rare").await.text;
    assert_eq!(rare.matches("<li data-id").count(), 2);
    let bought = post(&stage, "/books/501/purchase", "after=500&topic=".to_owned()).await;
    assert_eq!(bought.header("location"), Some("/books?after=500&bought=501"), "{}", bought.text);
    let none = stage.get("/books?topic=Gardening").await;
    assert_eq!((none.status, none.text.contains("No title is about this.")), (200, true));
}

#[tokio::test]
async fn a_column_of_tasks_goes_on_where_its_page_ends() {
    let stage = Stage::open(64).await;
    for n in 1..=201 {
        add(&stage, "/api/v1/tasks", json!({ "title": format!("Task {n}"), "created_by": "Ada" })).await;
    }
    let page = stage.get("/tasks").await.text;
    assert!(page.contains("<span class=\"count\">200+</span>") && !page.contains("Task 201"), "{page}");
    assert!(page.contains("href=\"/tasks?status=todo&amp;after=200\">More"), "{page}");
    let more = stage.get("/tasks?status=todo&after=200").await.text;
    assert_eq!(
        (more.matches("class=\"card\"").count(), more.matches("class=\"lane\"").count()),
        (1, 1),
        "{more}"
    );
    assert!(more.contains("Task 201") && more.contains("<span class=\"count\">1</span>"), "{more}");
}

#[tokio::test]
async fn a_title_has_a_page_that_sells_copies_and_tells_what_was_sold() {
    let stage = Stage::open(64).await;
    stage.ask(stage.http.post(stage.at("/api/v1/books/seed"))).await;
    let page = stage.get("/books/3").await.text;
    assert!(page.contains("<h1>Xen and the Art of Surviving Graduate School</h1>"), "{page}");
    assert!(page.contains("1000 left") && page.contains("Nothing yet."), "{page}");
    let form = format!("id={}&from=title&quantity=3", hidden_id(&page));
    let mut orders = Vec::new();
    for _ in 0..2 {
        let bought = post(&stage, "/books/3/purchase", form.clone()).await;
        assert_eq!(bought.status, 303, "{}", bought.text);
        orders.push(bought.header("location").expect("where it is").to_owned());
    }
    assert_eq!(orders[0], orders[1], "it is bought once");
    let page = stage.get(&orders[0]).await.text;
    assert!(page.contains("Bought: 3 copies for 9.00 USD") && page.contains("997 left"), "{page}");
    assert_eq!(page.matches("<li data-id").count(), 1);

    for (quantity, status, said) in
        [("0", 422, "Copies is 0"), ("many", 422, "Copies "), ("998", 409, "Sorry: of &#39;Xen")]
    {
        let refused = post(&stage, "/books/3/purchase", format!("from=title&quantity={quantity}")).await;
        assert_eq!(refused.status, status, "{quantity}: {}", refused.text);
        assert!(refused.text.contains(said), "{}", refused.text);
        assert!(refused.text.contains(&format!("value=\"{quantity}\"")), "what was typed: {}", refused.text);
    }
    assert_eq!(stage.get("/books/77").await.status, 404);

    post(&stage, "/books/1/purchase", String::new()).await;
    let all = stage.get("/orders").await.text;
    assert_eq!(all.matches("<tr role=\"row\" data-id").count(), 2, "{all}");
    let first = stage.get("/orders?limit=1").await.text;
    let (_, next) = first.split_once("href=\"/orders?before=").expect("there are older ones");
    let before = next.split('"').next().expect("its end");
    let older = stage.get(&format!("/orders?limit=1&before={before}")).await.text;
    assert!(older.contains("Xen and") && !older.contains("id=\"next\""), "{older}");
    let of_one = stage.get("/orders?book=1").await.text;
    assert_eq!(of_one.matches("<tr role=\"row\" data-id").count(), 1, "{of_one}");
}
