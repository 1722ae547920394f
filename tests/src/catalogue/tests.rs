use super::*;

const CITED: &str = "[MQTT-3.1.0-1]";
const TEST: &str = "broker/core/tests/a.rs::a_test";

fn catalogue(specification: &'static Specification, table: &str) -> Catalogue {
    Catalogue { specification, table: toml::from_str(table).unwrap() }
}

fn source(path: &str, text: &str) -> Source {
    Source { path: path.into(), text: text.to_owned() }
}

fn conformance(v5: &str, sources: Vec<Source>) -> Conformance {
    Conformance { v311: catalogue(&V311, ""), v5: catalogue(&V5, v5), sources }
}

fn statement(id: &str, rest: &str) -> String {
    format!("[[statement]]\nid = \"{id}\"\nsays = \"something\"\nbinds = \"server\"\n{rest}\n")
}

fn test_source(comment: &str) -> Source {
    source(
        "broker/core/tests/a.rs",
        &format!("/// {comment}\n#[test]\nfn a_test() {{\n    assert!(true);\n}}\n"),
    )
}

fn said(conformance: &Conformance) -> Vec<String> {
    conformance.problems().iter().map(ToString::to_string).collect()
}

#[test]
fn a_statement_with_a_test_that_names_it_and_code_that_cites_it_is_covered() {
    let table = statement("MQTT-3.1.0-1", &format!("tests = [\"{TEST}\"]"));
    let code = source("broker/core/src/a.rs", &format!("// {CITED}"));
    assert_eq!(said(&conformance(&table, vec![test_source(CITED), code])), [""; 0]);
}

#[test]
fn whatever_a_table_claims_wrongly_is_found() {
    let claimed = statement("MQTT-3.1.0-1", &format!("tests = [\"{TEST}\"]"));
    let code = || source("broker/core/src/a.rs", &format!("// {CITED}"));
    let cases = [
        (statement("MQTT-3.1.0-1", ""), vec![], "neither tests nor a reason"),
        (statement("MQTT-3.1.0-1", "reason = \" \""), vec![], "neither tests nor a reason"),
        (
            statement("MQTT-3.1.0-1", &format!("reason = \"none\"\ntests = [\"{TEST}\"]")),
            vec![test_source(CITED), code()],
            "tests and a reason",
        ),
        (statement("MQTT-3.1.0-2", "reason = \"none\""), vec![], "MQTT-3.1.0-1 is missing"),
        (statement("MQTT-3.1.0-1", "reason = \"none\"").repeat(2), vec![], "twice or out of order"),
        (claimed.clone(), vec![code()], "is no test there"),
        (claimed.clone(), vec![code(), test_source("nothing")], "does not name it"),
        (claimed, vec![test_source(CITED)], "not cited in broker/*/src"),
    ];
    for (table, sources, expected) in cases {
        let said = said(&conformance(&table, sources));
        assert!(said.len() == 1 && said[0].contains(expected), "{expected}: {said:?}");
    }
}

#[test]
fn a_citation_of_no_statement_is_found_with_its_line() {
    let table = statement("MQTT-3.1.0-1", "reason = \"none\"");
    let unknown = CITED.replace("0-1", "0-7");
    let of_311 = CITED.replace("MQTT", "MQTT3");
    let text = format!("// {CITED}\n// {unknown}, {of_311}\n// [MQTT-x.y.z-n] and [MQTT 5, 4.8] are none\n");
    let said = said(&conformance(&table, vec![source("acl/src/a.rs", &text)]));
    assert_eq!(said.len(), 2, "{said:?}");
    assert!(said[0].starts_with(&format!("acl/src/a.rs:2: {unknown}")), "{said:?}");
    assert!(said[1].contains(&of_311), "{said:?}");
}

#[test]
fn a_twin_s_citation_counts_and_must_exist() {
    let code = source("broker/core/src/a.rs", &format!("// {CITED}"));
    let test = test_source(&CITED.replace("MQTT-3.1.0-1", "MQTT3-3.1.0-1"));
    let table = |twin| statement("MQTT-3.1.0-1", &format!("tests = [\"{TEST}\"]\nv5 = \"{twin}\""));
    let v5 = || catalogue(&V5, &statement("MQTT-3.1.0-1", "reason = \"none\""));
    let missing = "MQTT-3.1.0-9";
    let mut both =
        Conformance { v311: catalogue(&V311, &table("MQTT-3.1.0-1")), v5: v5(), sources: vec![code, test] };
    assert_eq!(said(&both), [""; 0]);
    both.v311 = catalogue(&V311, &table(missing));
    assert!(said(&both).iter().any(|problem| problem.contains("has the twin MQTT-3.1.0-9")));
}

#[test]
fn numbers_that_the_specification_leaves_out_are_not_missing() {
    let table = format!("absent = [\"MQTT-2.2.1-1\"]\n{}", statement("MQTT-2.2.1-2", "reason = \"none\""));
    assert_eq!(said(&conformance(&table, vec![])), [""; 0]);
}

#[test]
fn a_statement_has_one_spelling() {
    for wrong in ["MQTT-3.1-1", "MQTT-3.1.0-0", "MQTT-03.1.0-1", "MQTT-3.1.0-+1", "MQTT3-3.1.0-1", "3.1.0-1"]
    {
        assert!(StatementId::try_from(wrong.to_owned()).is_err(), "{wrong}");
    }
}

#[test]
fn a_function_that_is_no_test_is_none() {
    let helper = source("broker/core/tests/a.rs", "fn a_test() {\n}\n");
    assert_eq!(helper.test("a_test"), None);
    assert!(source("broker/core/src/a.rs", "").is_server_code());
    assert!(!source("broker/core/src/tests/a.rs", "").is_server_code());
    assert!(!source("broker/core/tests/a.rs", "").is_server_code());
}
