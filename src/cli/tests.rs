use clap::CommandFactory;

use super::*;

fn parse(arguments: &str) -> Result<Cli, clap::Error> {
    Cli::try_parse_from(std::iter::once("tidegate").chain(arguments.split_whitespace()))
}

/// The parser's refusal of arguments, which ends in the exit code for wrong usage.
fn refusal(arguments: &str) -> String {
    let error = parse(arguments).unwrap_err();
    assert_eq!(error.exit_code(), Exit::Usage as i32, "{arguments}");
    error.to_string()
}

const TOPIC: &str = "/event/OrderCreated__e";

#[test]
fn the_commands_are_well_formed() {
    Cli::command().debug_assert();
}

#[test]
fn what_scripts_rely_on_parses() {
    for arguments in [
        "publish /event/OrderCreated__e",
        "publish /event/OrderCreated__e -",
        "publish /event/OrderCreated__e --file events.ndjson --output json",
        "publish /event/OrderCreated__e --json {}",
        "publish /data/Shipment__ChangeEvent --change before.json after.json --output json",
        "publish /data/Shipment__ChangeEvent --change /dev/null new.json --change-type UNDELETE \
         --record-id a01000000000001 --record-id a01* --change-origin o --transaction-key k \
         --commit-user 005000000000001",
        "subscribe /event/OrderCreated__e --from -2 --count 3 --idle-exit 3s --output json",
        "subscribe /event/OrderCreated__e --from 00000000000001000000",
        "subscribe /event/OrderCreated__e --endpoint https://h:1 --ca f --token t --tenant i",
        "subscribe /event/A__e /event/B__e --checkpoint f --on-rejected earliest --max-in-flight 10",
        "subscribe /event/A__e --state d --exec cmd --order key:Field --timeout 5s --attempts 3",
        "subscribe /event/A__e --state d --exec cmd --order record --retry-wait 2s --retry-wait-max 1m",
        "subscribe /event/A__e --checkpoint f --to-file events.avro",
        "replay /event/A__e --from earliest --to 00000000000001000000 --to-file events.avro",
        "subscribe /event/A__e --webhook https://h/x --webhook-secret-file f --webhook-ca c --state d",
        "subscribe /event/A__e --login-url https://h --client-id i --client-secret-file f --proxy http://p:1",
        "subscribe /event/A__e --profile prod --client-cert c --client-key k --token-command cmd",
        "deadletter list --state d --output json",
        "deadletter show event.A__e-00000000000001000000 --state d",
        "deadletter redrive --all --state d --exec cmd",
        "deadletter purge event.A__e-00000000000001000000 --state d --yes",
        "topic list",
        "topic describe /event/OrderCreated__e",
        "schema list --topic /event/OrderCreated__e",
        "schema get dGzWYkf4alBWqjXJMJJLlw",
        "schema id a.avsc b.avsc",
        "schema init OrderCreated --field Amount:double --field Note --out - --force",
        "schema lint a.avsc b.avsc --strict --output json",
        "channel create /event/Orders__chn --label Orders --output json",
        "channel list",
        "channel describe /event/Orders__chn",
        "channel add /event/Orders__chn /event/A__e --filter A>1",
        "channel add /data/Sales__chn /data/AccountChangeEvent --enrich Name Industry",
        "channel remove /event/Orders__chn /event/A__e",
        "channel set /event/Orders__chn --label Orders",
        "channel delete /event/Orders__chn --yes",
        "channel apply channels.toml --prune --dry-run --output json",
        "token create --name n --publish /event/* /data/* --subscribe * --change-events --admin",
        "token list",
        "token revoke 1",
        "log info --data-dir d --output json",
        "log verify",
        "log backup d --endpoint https://h:1 --output json",
        "log restore d --data-dir e",
    ] {
        if let Err(error) = parse(arguments) {
            panic!("{arguments}: {error}");
        }
    }
}

#[test]
fn wrong_usage_is_refused_with_what_was_wanted() {
    let publish = |rest: &str| refusal(&format!("publish {TOPIC} {rest}"));
    assert!(publish("--json {} --file f").contains("cannot be used with"));
    assert!(publish("--json {} -").contains("cannot be used with"));
    assert!(publish("events.ndjson").contains("possible values: -"));
    for source in ["--json {}", "--file f", "-"] {
        let both = publish(&format!("--change a b {source}"));
        assert!(both.contains("cannot be used with"), "{both}");
    }
    for option in [
        "--change-type UPDATE",
        "--record-id a01*",
        "--change-origin o",
        "--transaction-key k",
        "--commit-user 005000000000001",
    ] {
        assert!(
            publish(option).contains("--change <BEFORE> <AFTER>"),
            "{option}"
        );
    }
    assert!(publish("--change a").contains("2 values required"));
    assert!(publish("--change a b --change-type update").contains("wanted one of CREATE"));
    assert!(publish("--change a b --record-id a01").contains("15 or 18 characters"));
    assert!(publish("--change a b --record-id a0*").contains("as in 001*"));
    assert!(publish("--change a b --commit-user me").contains("15 or 18 characters"));
    assert!(refusal("publish").contains("<TOPIC>"));
    assert!(refusal("publish OrderCreated__e --json {}").contains("/event/"));

    let subscribe = |rest: &str| refusal(&format!("subscribe {TOPIC} {rest}"));
    assert!(subscribe("--count 0").contains("0 is not in 1.."));
    assert!(subscribe("--count -1").contains("'--count <N>'"));
    assert!(subscribe("--from yesterday").contains("16 or 20 hex digits"));
    assert!(subscribe("--from 9007199254740992").contains("at most"));
    assert!(subscribe("--from -15").contains("or -15m, -2h30m or -3d"));
    assert!(subscribe("--from 2026-01-01T00:00").contains("2026-01-01T00:00:00Z"));
    for from in ["-15m", "-2h30m", "2026-01-01T00:00Z"] {
        assert!(parse(&format!("subscribe {TOPIC} --from {from}")).is_ok());
        assert!(parse(&format!("replay {TOPIC} --from {from} --to-file f")).is_ok());
        assert!(parse(&format!("topic replay-id {TOPIC} {from}")).is_ok());
    }
    assert!(refusal(&format!("topic replay-id {TOPIC} noon")).contains("or -15m"));
    assert!(subscribe("--idle-exit 3").contains("500ms"));
    assert!(subscribe("--output yaml").contains("text, json"));

    assert!(refusal("schema get OrderCreated__e").contains("a topic begins with /"));
    assert!(refusal("schema id").contains("<FILE>"));
    assert!(refusal("token create --publish Order*").contains("begins with / or *"));
    assert!(refusal("token revoke").contains("<ID>"));
    assert!(refusal("publsh").contains("'publish'"));
}

#[test]
fn every_argument_is_described() {
    fn check(command: &clap::Command) {
        let name = command.get_name();
        assert!(command.get_about().is_some(), "{name}");
        for argument in command.get_arguments() {
            assert!(argument.get_help().is_some(), "{name}: {argument}");
        }
        command.get_subcommands().for_each(check);
    }
    check(&Cli::command());
}

#[test]
fn the_help_has_the_exit_codes() {
    let help = Cli::command().render_help().to_string();
    assert!(help.contains(EXIT_CODES_HELP), "{help}");
}

#[test]
fn a_parsed_command_does_not_show_its_token() {
    let cli = parse("token list --token secret").unwrap();
    assert!(!format!("{cli:?}").contains("secret"));
}

#[test]
fn every_command_of_the_readme_parses() {
    const README: &str = include_str!("../../README.md");
    let commands = README.lines().filter_map(|line| {
        let program = ["cargo run --release -- ", "tidegate ", "$ tidegate "];
        program
            .iter()
            .find_map(|program| line.strip_prefix(program))
    });
    let mut count = 0;
    for command in commands {
        // Every second part stands in quotes.
        let words = command
            .split('\'')
            .enumerate()
            .flat_map(|(number, part)| match number % 2 {
                0 => part.split_whitespace().collect(),
                _ => vec![part],
            });
        if let Err(error) = Cli::try_parse_from(std::iter::once("tidegate").chain(words)) {
            panic!("{command}: {error}");
        }
        count += 1;
    }
    assert!(count > 5, "the README shows the commands");
}

#[test]
fn durations_have_a_unit_and_are_above_zero() {
    assert_eq!(parse_duration("3s"), Ok(std::time::Duration::from_secs(3)));
    assert_eq!(
        parse_duration("500ms"),
        Ok(std::time::Duration::from_millis(500))
    );
    assert_eq!(
        parse_duration("1m 30s"),
        Ok(std::time::Duration::from_secs(90))
    );
    for text in ["", "3", "0s", "-3s", "3 parsecs", "1d"] {
        assert!(parse_duration(text).is_err(), "{text:?}");
    }
}
