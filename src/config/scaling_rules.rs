//! What the scaler may look at, for whom, and with which credentials. Pure.
//!
//! Contract: what a ScaledObject asks for is untrusted. A rule allows what all its lists allow together; the first rule that does
//! decides, also about the credentials. What no rule allows is refused, so no rule allows nothing.

use std::path::PathBuf;

use serde::Deserialize;

use super::aws::role_arn;
use super::parse::InvalidValue;
use super::sdk_variables::{endpoint_url, is_region};

/// The rules, in their order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScalingRules(Vec<ScalingRule>);

/// One rule.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ScalingRule {
    /// The namespaces of ScaledObjects.
    namespaces: Vec<Pattern>,
    /// The tables, as ScaledObjects name them: by name or by ARN.
    tables: Vec<Pattern>,
    regions: Vec<Pattern>,
    /// Endpoints of which a ScaledObject has to name one, to the letter; without them it may name none.
    #[serde(default)]
    endpoints: Vec<String>,
    role_arn: Option<String>,
    external_id: Option<String>,
    credentials_folder: Option<PathBuf>,
}

/// With whose permissions a table is looked at.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ScalingIdentity {
    /// Those that the SDK finds for this process.
    #[default]
    OfProcess,
    /// This role, assumed with the credentials that the SDK finds.
    Role { arn: String, external_id: Option<String> },
    /// The keys in the files of this folder, as a Secret is mounted.
    Keys(PathBuf),
}

/// Text in which `*` stands for any other text.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Pattern(String);

/// What somebody wants to look at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ScalingRequest<'r> {
    pub namespace: &'r str,
    pub table: &'r str,
    /// None: the one that the rule names, if it names one.
    pub region: Option<&'r str>,
    pub endpoint: Option<&'r str>,
}

/// What a rule allows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Permission {
    pub region: String,
    pub identity: ScalingIdentity,
}

/// Why something may not be looked at; it does not say what others may.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotAllowed {
    #[error(
        "no rule allows this: the scaler's operator allows tables, regions and endpoints by namespace in SCALER_RULES"
    )]
    NoRule,
    #[error("awsRegion is not set, and the rule that allows the table does not name exactly one region")]
    NoRegion,
}

impl ScalingRules {
    /// A JSON list of rules.
    pub(super) fn parse(text: &str) -> Result<Self, InvalidValue> {
        let rules: Vec<ScalingRule> = serde_json::from_str(text).map_err(|error| error.to_string())?;
        if rules.is_empty() {
            return Err("no rule: nothing may be scaled".into());
        }
        for (place, rule) in rules.iter().enumerate() {
            rule.check().map_err(|why| format!("rule {}: {why}", place + 1))?;
        }
        Ok(Self(rules))
    }

    /// What the first rule that allows it says.
    ///
    /// # Errors
    /// When none does, or none that says which region is meant.
    pub fn permission(&self, request: ScalingRequest<'_>) -> Result<Permission, NotAllowed> {
        let mut why = NotAllowed::NoRule;
        for rule in self.0.iter().filter(|rule| rule.allows(request)) {
            match request.region.or(rule.only_region()) {
                Some(region) => return Ok(Permission { region: region.to_owned(), identity: rule.identity() }),
                None => why = NotAllowed::NoRegion,
            }
        }
        Err(why)
    }
}

impl ScalingRule {
    fn check(&self) -> Result<(), InvalidValue> {
        for (name, list) in [("namespaces", &self.namespaces), ("tables", &self.tables), ("regions", &self.regions)] {
            if list.is_empty() || list.iter().any(|pattern| pattern.0.trim().is_empty()) {
                return Err(format!("`{name}` has no entry, or an empty one").into());
            }
        }
        if let Some(region) = self.regions.iter().find(|region| !is_region(&region.0.replace('*', "x"))) {
            return Err(format!("{:?} is not a region", region.0).into());
        }
        if let Some(why) = self.endpoints.iter().find_map(|url| endpoint_url(url).err()) {
            return Err(format!("`endpoints`: {why}").into());
        }
        if let Some(why) = self.role_arn.as_deref().and_then(|role| role_arn(role).err()) {
            return Err(format!("`roleArn`: {why}").into());
        }
        match (&self.role_arn, &self.external_id, &self.credentials_folder) {
            (Some(_), _, Some(_)) => Err("`roleArn` and `credentialsFolder` exclude each other".into()),
            (None, Some(_), _) => Err("`externalId` goes with `roleArn`".into()),
            (_, _, Some(folder)) if !folder.is_absolute() => Err("`credentialsFolder` is not an absolute path".into()),
            _ => Ok(()),
        }
    }

    fn allows(&self, request: ScalingRequest<'_>) -> bool {
        let any = |patterns: &[Pattern], text: &str| patterns.iter().any(|pattern| pattern.matches(text));
        any(&self.namespaces, request.namespace)
            && any(&self.tables, request.table)
            && request.region.is_none_or(|region| any(&self.regions, region))
            && match request.endpoint {
                // Whoever may look at an emulator may not look at AWS for that.
                None => self.endpoints.is_empty(),
                Some(endpoint) => self.endpoints.iter().any(|allowed| allowed == endpoint),
            }
    }

    fn only_region(&self) -> Option<&str> {
        match &self.regions[..] {
            [only] if !only.0.contains('*') => Some(&only.0),
            _ => None,
        }
    }

    fn identity(&self) -> ScalingIdentity {
        match (&self.role_arn, &self.credentials_folder) {
            (Some(arn), _) => ScalingIdentity::Role { arn: arn.clone(), external_id: self.external_id.clone() },
            (None, Some(folder)) => ScalingIdentity::Keys(folder.clone()),
            (None, None) => ScalingIdentity::OfProcess,
        }
    }
}

impl Pattern {
    /// Whether the whole text is as the pattern says. An ARN is matched only by a pattern of ARNs: `*` means every name.
    fn matches(&self, text: &str) -> bool {
        if text.starts_with("arn:") && !self.0.starts_with("arn:") {
            return false;
        }
        let mut parts = self.0.split('*');
        let Some(mut rest) = text.strip_prefix(parts.next().unwrap_or_default()) else { return false };
        let Some(end) = parts.next_back() else { return rest.is_empty() };
        for part in parts {
            match rest.find(part) {
                Some(at) => rest = &rest[at + part.len()..],
                None => return false,
            }
        }
        rest.ends_with(end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULES: &str = r#"[
        {"namespaces": ["shop", "shop-*"], "tables": ["orders-*"], "regions": ["eu-west-1"],
         "roleArn": "arn:aws:iam::111122223333:role/shop", "externalId": "7"},
        {"namespaces": ["bank"], "tables": ["ledger"], "regions": ["eu-*"], "credentialsFolder": "/secrets/bank"},
        {"namespaces": ["test"], "tables": ["*"], "regions": ["local"], "endpoints": ["http://dynamodb:8000"]},
        {"namespaces": ["test"], "tables": ["arn:aws:dynamodb:*:111122223333:table/a*"], "regions": ["*"]}
    ]"#;

    fn asked(
        namespace: &str,
        table: &str,
        region: Option<&str>,
        endpoint: Option<&str>,
    ) -> Result<Permission, NotAllowed> {
        let rules = ScalingRules::parse(RULES).expect("these rules are right");
        rules.permission(ScalingRequest { namespace, table, region, endpoint })
    }

    #[test]
    fn the_first_rule_that_allows_namespace_table_region_and_endpoint_decides() {
        let role = ScalingIdentity::Role {
            arn: "arn:aws:iam::111122223333:role/shop".to_owned(),
            external_id: Some("7".to_owned()),
        };
        let allowed = asked("shop-eu", "orders-1", Some("eu-west-1"), None).expect("the first rule");
        assert_eq!((allowed.region.as_str(), allowed.identity), ("eu-west-1", role));
        let keys = ScalingIdentity::Keys("/secrets/bank".into());
        assert_eq!(asked("bank", "ledger", Some("eu-central-1"), None).map(|it| it.identity), Ok(keys));
        let local = asked("test", "any", Some("local"), Some("http://dynamodb:8000"));
        assert_eq!(local.map(|it| it.identity), Ok(ScalingIdentity::OfProcess));
    }

    #[test]
    fn what_no_rule_allows_is_refused() {
        for (namespace, table, region, endpoint) in [
            ("shopping", "orders-1", "eu-west-1", None),
            ("shop", "orders", "eu-west-1", None),
            ("shop", "my-orders-1", "eu-west-1", None),
            ("shop", "orders-1", "eu-west-2", None),
            ("shop", "orders-1", "eu-west-1", Some("http://169.254.169.254")),
            ("bank", "orders-1", "eu-west-1", None),
            ("", "ledger", "eu-west-1", None),
            ("test", "any", "local", Some("http://dynamodb:8000/")),
            ("test", "any", "local", None),
            ("test", "arn:aws:dynamodb:local:999900001111:table/any", "local", None),
            ("test", "arn:aws:dynamodb:local:999900001111:table/a", "local", None),
        ] {
            assert_eq!(asked(namespace, table, Some(region), endpoint), Err(NotAllowed::NoRule), "{namespace} {table}");
        }
        assert!(asked("test", "arn:aws:dynamodb:eu-west-1:111122223333:table/ab", Some("eu-west-1"), None).is_ok());
    }

    #[test]
    fn without_a_region_the_rules_only_one_is_meant() {
        assert_eq!(asked("shop", "orders-1", None, None).map(|it| it.region), Ok("eu-west-1".to_owned()));
        assert_eq!(asked("bank", "ledger", None, None), Err(NotAllowed::NoRegion));
    }

    #[test]
    fn a_star_stands_for_any_text() {
        for (pattern, text, expected) in [
            ("*", "", true),
            ("a*", "a", true),
            ("*a", "ba", true),
            ("a*b*c", "a-b-c", true),
            ("a*b*c", "abc", true),
            ("a*b*c", "acb", false),
            ("a*a", "a", false),
            ("*ab*ab", "ab", false),
            ("a", "ab", false),
            ("**", "x", true),
        ] {
            assert_eq!(Pattern(pattern.to_owned()).matches(text), expected, "{pattern} {text}");
        }
    }

    #[test]
    fn rules_that_cannot_be_meant_are_mistakes() {
        let with = |more: &str| format!(r#"[{{"namespaces":["a"],"tables":["b"],"regions":["c"]{more}}}]"#);
        assert!(ScalingRules::parse(&with("")).is_ok());
        for text in [
            "",
            "{}",
            "[]",
            r#"[{"namespaces":["a"],"tables":["b"]}]"#,
            r#"[{"namespaces":[],"tables":["b"],"regions":["c"]}]"#,
            r#"[{"namespaces":["a"],"tables":[" "],"regions":["c"]}]"#,
            r#"[{"namespaces":["a"],"tables":["b"],"regions":["eu west"]}]"#,
            &with(r#","role":"x""#),
            &with(r#","roleArn":"x""#),
            &with(r#","externalId":"7""#),
            &with(r#","endpoints":["dynamodb:8000"]"#),
            &with(r#","credentialsFolder":"secrets""#),
            &with(r#","credentialsFolder":"/s","roleArn":"arn:aws:iam::111122223333:role/shop""#),
        ] {
            assert!(ScalingRules::parse(text).is_err(), "{text}");
        }
    }
}
