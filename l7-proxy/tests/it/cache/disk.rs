//! What is on the disk: where, for how long, and what becomes of what does not belong there.

use std::fs;
use std::path::{Path, PathBuf};

use super::counting;
use crate::nginx::Beside;
use crate::peer::{Origin, Proxy, eventually, http};

/// All files below a folder whose names are those of entries, in order.
pub(super) fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.path().is_dir() {
            found.extend(files(&entry.path()));
        } else if entry.file_name().len() == 32 {
            found.push(entry.path());
        }
    }
    found.sort();
    found
}

fn content(origin: &crate::peer::Origin, more: &str) -> String {
    format!(
        "location / {{ proxy_pass http://{}; proxy_cache zone; proxy_cache_valid 1h; proxy_cache_key $uri;
         proxy_set_header Host $server_port; add_header X-Cache $upstream_cache_status; {more} }}",
        origin.addr
    )
}

fn text(zone: &str, origin: &crate::peer::Origin) -> String {
    let content = content(origin, "");
    http(&format!("proxy_cache_path cache {zone}; server {{ listen 127.0.0.1:1; {content} }}"))
}

fn state(proxy: &Proxy, path: &str) -> String {
    proxy.get(path).header("X-Cache").unwrap().to_owned()
}

#[test]
fn files_are_called_as_by_nginx() {
    let (origin, _) = counting();
    for zone in ["levels=1:2", "levels=2:2:1 use_temp_path=off", ""] {
        let zone = format!("proxy_cache_path cache keys_zone=zone:1m {zone};");
        let beside = Beside::start(&zone, &content(&origin, ""), &["X-Cache"]);
        ["/a", "/b"].iter().for_each(|path| _ = beside.get(path));
        let names = |folder: &Path| {
            let cache = folder.join("cache");
            let names = files(&cache).into_iter().map(|file| file.strip_prefix(&cache).unwrap().to_owned());
            names.collect::<Vec<_>>()
        };
        let ours = names(beside.ours.folder.path());
        assert_eq!(ours.len(), 2);
        if let Some(nginx) = &beside.nginx {
            // It may be at its work when the answer is out.
            eventually("nginx has the same", || ours == names(nginx.folder.path()));
        }
    }
}

#[test]
fn what_is_kept_outlives_reloads_and_restarts() {
    let (origin, _) = counting();
    let text = text("levels=1:2 keys_zone=zone:1m", &origin);
    let proxy = Proxy::start_workers(&text, 2);
    assert_eq!(state(&proxy, "/a"), "MISS");
    proxy.reload(&text.replace("levels=1:2", "levels=1:2 inactive=1h"));
    assert_eq!(state(&proxy, "/a"), "HIT");
    let Proxy { daemon, folder } = proxy;
    drop(daemon);
    let config = crate::peer::configuration(folder.path(), &text);
    let daemon = l7_proxy::daemon::Daemon::start(config, Default::default()).unwrap();
    let proxy = Proxy { daemon, folder };
    assert_eq!(state(&proxy, "/a"), "HIT");
}

#[test]
fn file_that_is_no_entry_is_as_good_as_none() {
    let (origin, _) = counting();
    let proxy = Proxy::start(&text("keys_zone=zone:1m", &origin));
    let folder = proxy.folder.path().join("cache");
    type Damage = fn(&Path);
    let damages: [Damage; 7] = [
        |file| fs::write(file, "").unwrap(),
        |file| fs::write(file, "something else").unwrap(),
        |file| fs::write(file, [0xff; 4096]).unwrap(),
        |file| {
            let content = fs::read(file).unwrap();
            fs::write(file, &content[..content.len() - 1]).unwrap();
        },
        |file| {
            let mut content = fs::read(file).unwrap();
            content.push(b'x');
            fs::write(file, content).unwrap();
        },
        |file| {
            // A digit of the status.
            let mut content = fs::read(file).unwrap();
            let at = memchr::memmem::find(&content, b"200").unwrap();
            content[at] = b'3';
            fs::write(file, content).unwrap();
        },
        |file| fs::remove_file(file).unwrap(),
    ];
    for (number, damage) in damages.iter().enumerate() {
        let path = format!("/{number}");
        let before = files(&folder);
        assert_eq!(state(&proxy, &path), "MISS");
        let file = files(&folder).into_iter().find(|file| !before.contains(file)).unwrap();
        assert_eq!(state(&proxy, &path), "HIT");
        damage(&file);
        assert_eq!(state(&proxy, &path), "MISS", "{number}");
        assert_eq!(proxy.get(&path).text(), format!("GET {path} 2"), "{number}");
    }
}

#[test]
fn entry_under_the_name_of_another_is_not_sent() {
    let (origin, _) = counting();
    let proxy = Proxy::start(&text("keys_zone=zone:1m", &origin));
    let folder = proxy.folder.path().join("cache");
    assert_eq!(state(&proxy, "/a"), "MISS");
    let of_a = files(&folder).pop().unwrap();
    assert_eq!(state(&proxy, "/b"), "MISS");
    let of_b = files(&folder).into_iter().find(|file| *file != of_a).unwrap();
    fs::copy(of_a, of_b).unwrap();
    assert_eq!(proxy.get("/b").text(), "GET /b 2");
}

#[test]
fn entries_that_nobody_wants_any_more_go() {
    let (origin, _) = counting();
    let proxy = Proxy::start(&text("keys_zone=zone:1m inactive=1s", &origin));
    let folder = proxy.folder.path().join("cache");
    for path in ["/a", "/b"] {
        assert_eq!(state(&proxy, path), "MISS");
    }
    assert_eq!(files(&folder).len(), 2);
    eventually("they have gone", || files(&folder).is_empty());
    assert_eq!(state(&proxy, "/a"), "MISS");
}

#[test]
fn zone_does_not_grow_beyond_its_size() {
    let (origin, answers) = counting();
    let proxy = Proxy::start(&text("keys_zone=zone:1m max_size=100k manager_sleep=1ms", &origin));
    let folder = proxy.folder.path().join("cache");
    for number in 0..30 {
        let path = format!("/{number}");
        answers.lock().unwrap().insert(path.clone(), (200, "X-Size: 10000\r\n".to_owned()));
        assert_eq!(state(&proxy, &path), "MISS");
    }
    eventually("there is room", || {
        let sizes = files(&folder).into_iter().filter_map(|file| Some(fs::metadata(file).ok()?.len()));
        sizes.sum::<u64>() <= 100 * 1024
    });
    // The last one is the last that would go.
    assert_eq!(state(&proxy, "/29"), "HIT");
    // What is larger than all of the zone goes to its client alone.
    answers.lock().unwrap().insert("/huge".to_owned(), (200, "X-Size: 300000\r\n".to_owned()));
    for _ in 0..2 {
        let answer = proxy.get("/huge");
        assert_eq!(
            (answer.header("X-Cache"), answer.body.len()),
            (Some("MISS"), 300_000 + "GET /huge 1".len())
        );
    }
}

#[test]
fn answer_that_is_read_at_a_rate_and_outgrows_its_zone_comes_whole() {
    let content: Vec<u8> = (0..200_000_u32).map(|number| (number % 251) as u8).collect();
    let sent = content.clone();
    let origin = Origin::start(move |visit| {
        visit.request()?;
        visit.write(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", sent.len()))?;
        visit.write(&sent)
    });
    let proxy = Proxy::start(&http(&format!(
        "proxy_cache_path cache keys_zone=zone:1m max_size=70k;
         server {{ listen 127.0.0.1:1; location / {{ proxy_pass http://{}; proxy_cache zone;
             proxy_cache_valid 1h; proxy_limit_rate 50k; }} }}",
        origin.addr
    )));
    let answer = proxy.get("/");
    assert!(answer.body == content, "{} bytes of {}", answer.body.len(), content.len());
}

#[test]
fn keys_are_bounded() {
    let (origin, _) = counting();
    // As many as are in two pages.
    let proxy = Proxy::start(&text("keys_zone=zone:8k", &origin));
    let folder = proxy.folder.path().join("cache");
    for number in 0..80 {
        assert_eq!(state(&proxy, &format!("/{number}")), "MISS");
    }
    assert_eq!(files(&folder).len(), 64);
    assert_eq!((state(&proxy, "/79"), state(&proxy, "/0")), ("HIT".to_owned(), "MISS".to_owned()));
}

#[test]
fn what_does_not_belong_to_a_zone_goes_at_the_start_and_what_is_not_ours_stays() {
    let (origin, _) = counting();
    let folder = tempfile::tempdir().unwrap();
    let cache = folder.path().join("cache");
    let name = "0123456789abcdef0123456789abcdef";
    fs::create_dir_all(cache.join("x")).unwrap();
    // In the place of other levels, and too small.
    fs::write(cache.join("x").join(name), [0; 4096]).unwrap();
    fs::write(cache.join(name), "x").unwrap();
    fs::write(cache.join("README"), "ours").unwrap();
    fs::write(cache.join("0000000001"), "being written").unwrap();
    fs::write(cache.join("0000000002"), "left behind").unwrap();
    let long_ago = std::time::SystemTime::now() - std::time::Duration::from_secs(7200);
    fs::File::open(cache.join("0000000002")).unwrap().set_modified(long_ago).unwrap();
    let config = crate::peer::configuration(folder.path(), &text("keys_zone=zone:1m", &origin));
    let daemon = l7_proxy::daemon::Daemon::start(config, Default::default()).unwrap();
    eventually("they have gone", || files(&cache).is_empty() && !cache.join("0000000002").exists());
    assert!(cache.join("README").exists() && cache.join("0000000001").exists());
    drop(daemon);
}

#[test]
fn counts_of_a_zone_are_shown() {
    let (origin, _) = counting();
    let zone = "proxy_cache_path cache keys_zone=zone:1m;";
    let content = content(&origin, "");
    let text = format!("{zone} server {{ listen 127.0.0.1:1; location = /m {{ lvs_metrics; }} {content} }}");
    let proxy = Proxy::start(&http(&text));
    for path in ["/a", "/a", "/a", "/b"] {
        proxy.get(path);
    }
    let page = proxy.get("/m");
    for line in [
        "lvs_http_cache_requests_total{zone=\"zone\",status=\"hit\"} 2",
        "lvs_http_cache_requests_total{zone=\"zone\",status=\"miss\"} 2",
        "lvs_http_cache_served_bytes_total{zone=\"zone\"} 16",
        "lvs_http_cache_stored_bytes_total{zone=\"zone\"} 16",
        "lvs_http_cache_entries{zone=\"zone\"} 2",
        "lvs_http_cache_size_bytes{zone=\"zone\"} 8192",
    ] {
        assert!(page.text().contains(line), "{line}\n{}", page.text());
    }
}
