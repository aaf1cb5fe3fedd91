//! The pages, as a browser without JavaScript sees them.

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
