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
