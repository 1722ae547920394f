//! The conformance catalogue tells the truth.

use wardline_tests::catalogue::Conformance;
use wardline_tests::workspace;

#[test]
fn every_statement_is_covered_and_every_citation_is_of_a_statement() {
    let conformance = Conformance::load(workspace()).unwrap();
    assert!(conformance.catalogues().iter().all(|catalogue| catalogue.statements().len() > 100));
    let problems: Vec<String> = conformance.problems().iter().map(ToString::to_string).collect();
    assert!(problems.is_empty(), "{} problems:\n{}", problems.len(), problems.join("\n"));
}
