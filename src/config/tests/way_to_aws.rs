//! Region, credentials, endpoint, proxy, certificates, `common-config.toml`.

use super::*;

const COMMON: &str = "/common.toml";

fn load_with(agent: &str, logs: &str, common: &str, extra: Files, vars: &[(&str, &str)]) -> Loaded {
    let json = prometheus_json("")
        .replace(r#""agent": {"region": "eu-west-1"}"#, &format!(r#""agent": {{{agent}}}"#))
        .replace(r#""logs": {"#, &format!(r#""logs": {{{logs}"#));
    let disk = extra.with(AGENT, &json).with(COMMON, common).with("/prom.yaml", YAML).with("/var/lib/promwatch/x", "");
    let sources =
        Sources { config_paths: vec![AGENT.into()], common_config: Some(COMMON.into()), ..Sources::default() };
    load(&sources, &surroundings(vars), &disk)
}

#[test]
fn the_region_follows_the_agents_order() {
    let files = || {
        Files::default()
            .with("/root/.aws/config", "[default]\nregion = default-1\n[profile AmazonCloudWatchAgent]\nregion = agent-1\n[profile other]\nregion = other-1")
            .with("/shared/credentials", "[default]\naws_access_key_id = x")
            .with("/shared/config", "[default]\nregion = beside-1")
    };
    for (agent, common, vars, wanted) in [
        (r#""region": "eu-west-1""#, "", &[("AWS_REGION", "env-1")][..], Some("eu-west-1")),
        (r#""region": "${R}""#, "", &[("R", "eu-1"), ("AWS_REGION", "env-1")], Some("eu-1")),
        ("", "", &[("AWS_REGION", "env-1"), ("AWS_DEFAULT_REGION", "env-2")], Some("env-1")),
        ("", "", &[("AWS_DEFAULT_REGION", "env-2")], Some("env-2")),
        ("", "", &[], Some("agent-1")),
        ("", "[credentials]\nshared_credential_profile = 'other'", &[], Some("other-1")),
        ("", "[credentials]\nshared_credential_profile = 'gone'", &[], None),
        ("", "[credentials]\nshared_credential_file = '/shared/credentials'", &[], Some("beside-1")),
        ("", "", &[("AWS_CONFIG_FILE", "/shared/config")], Some("beside-1")),
    ] {
        let loaded = load_with(agent, "", common, files(), vars);
        expect(&loaded, Severity::Error, &[]);
        let warned = said(&loaded, Severity::Warning).iter().any(|text| text.contains("/agent/region: no region"));
        assert_eq!(warned, wanted.is_none(), "{agent} {common}");
        assert_eq!(loaded.settings.unwrap().upload.region.as_deref(), wanted, "{agent} {common}");
    }
}

#[test]
fn missing_credentials_warn_and_name_where_they_were_sought() {
    let warned = |common: &str, files: Files, vars: &[(&str, &str)]| {
        let loaded = load_with(r#""region": "eu-west-1""#, "", common, files, vars);
        expect(&loaded, Severity::Error, &[]);
        said(&loaded, Severity::Warning)
    };
    let none = Files::default;
    let line = &warned("", none(), &[])[0];
    assert!(
        line.contains("no credentials") && line.contains("/root/.aws/credentials") && line.contains("profile default")
    );
    assert_eq!(warned("", none().with("/root/.aws/credentials", KEYS), &[]), [""; 0]);
    assert_eq!(warned("", none(), &[("AWS_ACCESS_KEY_ID", "x"), ("AWS_SECRET_ACCESS_KEY", "y")]), [""; 0]);
    assert_eq!(warned("", none().with("/root/.aws/credentials", KEYS), &[("AWS_PROFILE", "gone")]).len(), 1);
    assert_eq!(
        warned("[credentials]\nshared_credential_profile = 'gone'", none(), &[("AWS_ACCESS_KEY_ID", "x")]).len(),
        1
    );
    let broken = warned("", none().with("/root/.aws/credentials", "[default\nhunter2"), &[]);
    assert!(broken[0].contains("/root/.aws/credentials:1:1: Profile definition must end with ']'"));
    assert!(!broken.concat().contains("hunter2"));
}

#[test]
fn credentials_settings_carry_files_profiles_and_keys() {
    let common = "[credentials]\nshared_credential_profile = \"fleet\"\nshared_credential_file = \"/k/creds\"\n";
    let vars = [
        ("AWS_ACCESS_KEY_ID", "AKID"),
        ("AWS_SECRET_ACCESS_KEY", "hunter2"),
        ("AWS_SESSION_TOKEN", "hunter3"),
        ("AWS_PROFILE", "p"),
    ];
    let settings = load_with(r#""region": "eu-west-1""#, "", common, Files::default(), &vars).settings.unwrap();
    let credentials = &settings.upload.credentials;
    assert_eq!(credentials.profile.as_deref(), Some("fleet"));
    assert_eq!(credentials.credentials_file, Path::new("/k/creds"));
    assert_eq!(credentials.config_file, Path::new("/k/config"));
    assert_eq!((credentials.env_profile.as_deref(), credentials.env_key_id.as_deref()), (Some("p"), Some("AKID")));
    assert_eq!(credentials.env_secret_key, Some(Secret::Inline("hunter2".to_owned())));
    assert!(!format!("{settings:?} {:?}", describe(&settings)).contains("hunter"));
}

#[test]
fn the_role_of_logs_wins_over_the_agents() {
    let role = |name: &str| format!(r#""credentials": {{"role_arn": "arn:aws:iam::123456789012:role/{name}"}}"#);
    let of = |agent: &str, logs: &str, vars: &[(&str, &str)]| {
        let agent = format!(r#""region": "eu-west-1"{agent}"#);
        load_with(&agent, logs, "", Files::default(), vars).settings.unwrap().upload.role_arn
    };
    let (a, l) = (format!(", {}", role("a")), format!("{},", role("l")));
    assert_eq!(of("", "", &[]), None);
    assert_eq!(of(&a, "", &[]).as_deref(), Some("arn:aws:iam::123456789012:role/a"));
    assert_eq!(of(&a, &l, &[]).as_deref(), Some("arn:aws:iam::123456789012:role/l"));
    assert_eq!(of(r#", "credentials": {"role_arn": "${R}"}"#, "", &[("R", "arn:x")]).as_deref(), Some("arn:x"));
}

#[test]
fn a_role_of_a_variable_that_is_not_set_is_told() {
    let agent = r#""region": "eu-west-1", "credentials": {"role_arn": "${ROLE}"}"#;
    let loaded = load_with(agent, "", "", Files::default(), &[]);
    let told = |text: &String| text.contains("/agent/credentials/role_arn: names a variable that is not set");
    assert!(said(&loaded, Severity::Warning).iter().any(told));
    assert!(loaded.settings.is_some());
}

#[test]
fn the_endpoint_comes_from_the_file_or_the_environment() {
    for (logs, vars, wanted) in [
        ("", &[][..], None),
        (
            r#""endpoint_override": "http://127.0.0.1:9","#,
            &[("AWS_ENDPOINT_URL", "https://e")],
            Some("http://127.0.0.1:9"),
        ),
        (r#""endpoint_override": "logs.example.com","#, &[], Some("https://logs.example.com")),
        (
            "",
            &[("AWS_ENDPOINT_URL_CLOUDWATCH_LOGS", "https://l"), ("AWS_ENDPOINT_URL", "https://e")],
            Some("https://l"),
        ),
        ("", &[("AWS_ENDPOINT_URL", "https://e")], Some("https://e")),
        ("", &[("AWS_ENDPOINT_URL", "https://e"), ("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", "true")], None),
    ] {
        let loaded = load_with(r#""region": "eu-west-1""#, logs, "", Files::default(), vars);
        assert_eq!(loaded.settings.unwrap().upload.endpoint.as_deref(), wanted);
    }
    for url in ["ftp://x.example", "https://", "https:///x"] {
        let logs = format!(r#""endpoint_override": "{url}","#);
        let loaded = load_with(r#""region": "eu-west-1""#, &logs, "", Files::default(), &[]);
        expect(&loaded, Severity::Error, &["/logs/endpoint_override: "]);
    }
}

#[test]
fn sts_is_reached_by_its_own_variables_and_told_the_host() {
    for (vars, wanted) in [
        (&[][..], None),
        (&[("AWS_ENDPOINT_URL_STS", "https://s"), ("AWS_ENDPOINT_URL", "https://e")], Some("https://s")),
        (&[("AWS_ENDPOINT_URL", "https://e")], Some("https://e")),
        (&[("AWS_ENDPOINT_URL_STS", "https://s"), ("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", "true")], None),
    ] {
        let agent = r#""region": "eu-west-1", "hostname": "pi-7""#;
        let upload = load_with(agent, "", "", Files::default(), vars).settings.unwrap().upload;
        assert_eq!(upload.sts_endpoint.as_deref(), wanted);
        assert_eq!(upload.role_session_name.as_deref(), Some("promwatch-pi-7"));
    }
}

#[test]
fn variants_of_the_endpoint_are_switches() {
    let vars = [("AWS_USE_FIPS_ENDPOINT", "TRUE"), ("AWS_USE_DUALSTACK_ENDPOINT", "true")];
    let upload = settings(&prometheus_json(""), &vars).upload;
    assert!(upload.fips && upload.dualstack);
    let json = prometheus_json("")
        .replace(r#""region""#, r#""use_dualstack_endpoint": true, "user_agent": "fleet/1", "region""#);
    let upload = settings(&json, &[]).upload;
    assert!(!upload.fips && upload.dualstack);
    assert_eq!(upload.user_agent.as_deref(), Some("fleet/1"));
}

#[test]
fn proxies_and_certificates_of_common_config_win_over_the_environment() {
    let common = "[proxy]\nhttps_proxy = \"http://u:hunter2@proxy:3128\"\nno_proxy = \"10.0.0.0/8\"\n[ssl]\nca_bundle_path = \"/ca.pem\"\n";
    let vars =
        [("HTTPS_PROXY", "http://env:1"), ("http_proxy", "env:2"), ("NO_PROXY", "x"), ("AWS_CA_BUNDLE", "/env.pem")];
    let files = || Files::default().with("/ca.pem", "x");
    let settings = load_with(r#""region": "eu-west-1""#, "", common, files(), &vars).settings.unwrap();
    let upload = &settings.upload;
    let inline = |text: &str| Some(Secret::Inline(text.to_owned()));
    assert_eq!(upload.proxy.https, inline("http://u:hunter2@proxy:3128"));
    assert_eq!(upload.proxy.http, inline("http://env:2"));
    assert_eq!(upload.proxy.no_proxy, "10.0.0.0/8");
    assert_eq!(upload.tls.ca, Some(Secret::File("/ca.pem".into())));
    assert!(!format!("{settings:?} {:?}", describe(&settings)).contains("hunter2"));

    let loaded = load_with(r#""region": "eu-west-1""#, "", "", files(), &vars);
    assert!(
        said(&loaded, Severity::Warning)
            .iter()
            .any(|text| text.contains("AWS_CA_BUNDLE: ssl.ca_bundle_path: /env.pem"))
    );
    let upload = loaded.settings.unwrap().upload;
    assert_eq!(upload.proxy.https, inline("http://env:1"));
    assert_eq!(upload.tls.ca, Some(Secret::File("/env.pem".into())));

    let loaded = load_with("", "", "[proxy]\nhttp_proxy = 'socks5://u:hunter2@p:1'", files(), &[]);
    expect(&loaded, Severity::Error, &["proxies of the kind \"socks5\" are not served"]);
    assert!(!said(&loaded, Severity::Note).concat().contains("hunter2"));
}

#[test]
fn common_config_must_exist_where_it_is_named_and_be_toml() {
    let json = prometheus_json("");
    let disk = |common: &str| Files::default().with(AGENT, &json).with("/prom.yaml", YAML).with(COMMON, common);
    let load = |path: Option<&str>, common: &str| {
        let sources =
            Sources { config_paths: vec![AGENT.into()], common_config: path.map(PathBuf::from), ..Sources::default() };
        load(&sources, &surroundings(&[]), &disk(common))
    };
    expect(&load(None, ""), Severity::Error, &[]);
    expect(&load(Some("/gone.toml"), ""), Severity::Error, &["error: /gone.toml: cannot be read"]);
    expect(
        &load(Some(COMMON), "# only comments\n[imds]\nimds_retries = 2\n"),
        Severity::Note,
        &["common.toml:3:1: imds.imds_retries: has no effect"],
    );
    expect(
        &load(Some(COMMON), "[proxy]\nhttp_proxy = http://x\n"),
        Severity::Error,
        &["error: /common.toml:2:14: is not TOML: "],
    );
    expect(&load(Some(COMMON), "[proxy]\nhttp_proxy = 5\n"), Severity::Error, &["proxy.http_proxy: must be a text"]);
    let loaded = load(Some(COMMON), "[credentials]\nshared_credentials_file = 'x'\n");
    assert!(said(&loaded, Severity::Warning).concat().contains("did you mean credentials.shared_credential_file?"));
    assert!(load(Some(COMMON), "").files.contains(&PathBuf::from(COMMON)));
}
