fn main() { let p = std::env::args().nth(1).unwrap(); println!("{:?}", chorus_sim::script::run(&std::fs::read_to_string(p).unwrap()).map(|s| println!("{s}"))); }
