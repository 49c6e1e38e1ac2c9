// The function of tests/clients/test_interpreters.py in Rust, on std alone: a Runtime API loop on a TcpStream.
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::{env, fs, process::Command, thread};

fn field<'a>(event: &'a str, name: &str) -> Option<&'a str> {
    let key = format!("\"{name}\": ");
    let value = &event[event.find(&key)? + key.len()..];
    value.strip_prefix('"').map_or_else(|| value.split([',', '}']).next(), |text| text.split('"').next())
}

fn told<T>(result: io::Result<T>) -> String {
    match result {
        Ok(_) => "ok".into(),
        Err(error) => error.raw_os_error().map_or_else(|| error.to_string(), |number| number.to_string()),
    }
}

fn work(rounds: usize) {
    let threads: Vec<_> = (0..4)
        .map(|number| {
            let named = thread::Builder::new().name(format!("worker-{number}"));
            named.spawn(move || (0..rounds).map(|i| vec![i as u8; 8 << 20].len()).sum::<usize>()).unwrap()
        })
        .collect();
    threads.into_iter().for_each(|thread| assert!(thread.join().unwrap() > 0));
}

fn connected(host: &str, port: &str) -> io::Result<()> {
    let mut greeting = [0; 5];
    TcpStream::connect(format!("{host}:{port}"))?.read_exact(&mut greeting)
}

fn handle(event: &str) -> String {
    let mut answers = Vec::new();
    let mut answer = |name: &str, text: String| answers.push(format!("\"{name}\": \"{text}\""));
    if let Some(rounds) = field(event, "work") {
        work(rounds.parse().unwrap());
        answer("work", "ok".into());
    }
    if let Some(path) = field(event, "file") {
        answer("file", told(fs::write(path, "text")));
    }
    if let Some(program) = field(event, "program") {
        answer("program", told(Command::new(program).output()));
    }
    if let Some(host) = field(event, "host") {
        answer("connect", told(connected(host, field(event, "port").unwrap())));
    }
    format!("{{{}}}", answers.join(", "))
}

/// One request on a connection of its own: the request id and the body.
fn ask(head: &str, body: &str) -> (String, String) {
    let api = env::var("AWS_LAMBDA_RUNTIME_API").unwrap();
    let mut stream = TcpStream::connect(&api).unwrap();
    let start = format!("{head} HTTP/1.1\r\nHost: {api}\r\nConnection: close\r\nContent-Length: {}\r\n\r\n", body.len());
    stream.write_all((start + body).as_bytes()).unwrap();
    let mut reader = BufReader::new(stream);
    let (mut id, mut length) = (String::new(), 0);
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        let Some((name, value)) = line.trim_end().split_once(':') else {
            if line.trim_end().is_empty() { break } else { continue }
        };
        match name.to_ascii_lowercase().as_str() {
            "lambda-runtime-aws-request-id" => id = value.trim().into(),
            "content-length" => length = value.trim().parse().unwrap(),
            _ => {}
        }
    }
    let mut text = vec![0; length];
    reader.read_exact(&mut text).unwrap();
    (id, String::from_utf8(text).unwrap())
}

fn main() {
    let api = "/2018-06-01/runtime/invocation";
    loop {
        let (id, event) = ask(&format!("GET {api}/next"), "");
        ask(&format!("POST {api}/{id}/response"), &handle(&event));
    }
}
