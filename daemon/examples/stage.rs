#![allow(unused, missing_docs, unreachable_pub)]
#[path = "../tests/http/stage.rs"]
mod stage;
#[tokio::main]
async fn main() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:18080").await.unwrap();
    let s = stage::Stage::open_at(listener, 64).await;
    let texts = [
        "The Analytical Engine weaves algebraic patterns just as the Jacquard loom weaves flowers and leaves.",
        "Any fool can write code that a computer can understand. Good programmers write code that humans can understand.",
        "If you want to go fast,\ngo alone.\nIf you want to go far,\ngo together.",
        "A distributed system is one in which the failure of a computer you didn’t even know existed can render your own computer unusable.",
        "Thesuperlongwordwithoutanyspacesthatmustnotbreakthelayoutofapageonanarrowscreenbecausewewrapanywhere",
    ];
    for i in 0..70 {
        s.log.quote(texts[i % texts.len()]);
    }
    if std::env::args().nth(1).as_deref() == Some("leaderless") {
        s.lead(false);
    }
    let mut n = 0;
    loop {
        tokio::time::sleep(std::time::Duration::from_secs(30)).await;
        n += 1;
        s.log.quote(&format!("tick {n}"));
    }
}
