//! Attributes with one local name and different prefixes (Namespaces in XML 1.0 §6.3).

use super::*;

#[test]
fn two_prefixes_of_one_namespace_are_found_wherever_they_are_declared() {
    let header = HEADER
        .replace(" xmlns:db=", " xmlns:h='u' xmlns:i='u' xmlns:j='v' xmlns:k='&amp;lt;' xmlns:db=");
    let verdict = |content: &str| all_at_once(format!("{header}{content}")).1;
    for twice in [
        "<message h:c='1' i:c='2'/>",
        "<message><x h:c='1' j:c='2' i:c='3'/></message>",
        "<message xmlns:a='u' a:c='1' i:c='2'/>",
        "<message xmlns:a='&#117;'><x xmlns:b='w'><y i:c='1' a:c='2'/></x></message>",
        "<message xmlns:a='&#38;lt;' a:c='1' k:c='2'/>",
        "<message xmlns:a='w'><x xmlns:b='w'><y a:c='1' b:c='2'/></x></message>",
        "<message xmlns:a='w'><x a:d='1' a:c='2'/><y xmlns:b='w' a:c='1' b:c='2'/></message>",
        // anew behind one that is out of scope
        "<message xmlns:a='w'><x xmlns:b='z' a:c='1' b:c='2'/>\
         <x xmlns:b='w' a:c='1' b:c='2'/></message>",
    ] {
        assert_eq!(verdict(twice), Some(Fault::DuplicateAttribute), "{twice}");
    }
    for once in [
        "<message h:c='1' j:c='2' c='3' xml:c='4'/>",
        "<message h:c='1' i:d='2'/>",
        "<message xmlns:a='&lt;' a:c='1' k:c='2'/>",
        // another namespace for the element and what is in it
        "<message xmlns:i='w' h:c='1' i:c='2'><x h:c='1' i:c='2'/></message>",
        "<message xmlns:a='w'><x xmlns:b='w'/><x xmlns:b='z' a:c='1' b:c='2'/></message>",
    ] {
        assert_eq!(verdict(once), None, "{once}");
    }
    let undeclared = "<message h:c='1' i:c='2' z:c='3'/>";
    assert_eq!(verdict(undeclared), Some(Fault::DuplicateAttribute), "the first fault counts");
    let undeclared = "<message h:c='1' z:c='3' i:c='2'/>";
    assert_eq!(verdict(undeclared), Some(Fault::UndeclaredPrefix), "the first fault counts");
}
