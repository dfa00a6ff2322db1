//! The schema id: a fingerprint of what decides how bytes are read, and of nothing else.
//!
//! Source: Avro specification, "Parsing Canonical Form for Schemas" and "Schema Fingerprints"; that
//! the id is the MD5 in base64url is observed from ids of public captures.

use md5::{Digest, Md5};

use crate::types::SchemaId;

/// The id of the schema with this Parsing Canonical Form.
pub fn schema_id(canonical_form: &str) -> SchemaId {
    SchemaId::from_digest(Md5::digest(canonical_form.as_bytes()).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_id_is_the_md5_of_the_canonical_form() {
        let canonical = r#"{"name":"com.sforce.eventbus.OrderCreated__e","type":"record","fields":[{"name":"CreatedDate","type":"long"},{"name":"CreatedById","type":"string"},{"name":"Order_Number__c","type":["null","string"]},{"name":"Amount__c","type":["null","double"]},{"name":"Priority__c","type":["null","boolean"]}]}"#;
        assert_eq!(schema_id(canonical).as_str(), "dGzWYkf4alBWqjXJMJJLlw");
    }
}
