//! The request that a client itself names behind its statements.

use txray_store::event::{Declared, DeclaredBy};
use txray_store::sql_lexer::TransactionControl;

use super::sql::Sql;
use super::traceparent;

/// The setting by which a client names its request.
pub(super) const SETTING: &str = "txray.traceparent";

/// What the client declared, by level.
#[derive(Debug, Default)]
pub(crate) struct Attribution {
    setting: Option<String>,
    /// SET LOCAL: until the transaction ends.
    local_setting: Option<String>,
    application_name: Option<String>,
}

impl Attribution {
    pub(crate) fn new(application_name: Option<&str>) -> Self {
        let mut attribution = Attribution::default();
        attribution.application_name(application_name.unwrap_or_default());
        attribution
    }

    /// The best declaration for a statement with this text.
    pub(crate) fn declared(&self, sql: &Sql) -> Option<Declared> {
        let setting = self.local_setting.as_ref().or(self.setting.as_ref());
        let levels = [
            (DeclaredBy::Setting, setting),
            (DeclaredBy::Comment, sql.traceparent.as_ref()),
            (DeclaredBy::ApplicationName, self.application_name.as_ref()),
        ];
        levels.into_iter().find_map(|(by, name)| name.map(|name| Declared { by, traceparent: name.clone() }))
    }

    /// Follows `application_name`.
    pub(crate) fn application_name(&mut self, name: &str) {
        self.application_name = traceparent::is_valid(name).then(|| name.to_owned());
    }

    /// Follows a statement that succeeded.
    pub(crate) fn succeeded(&mut self, sql: &Sql) {
        match &sql.control {
            Some(TransactionControl::Set { name, value, local }) if name == SETTING => {
                let value = value.clone().filter(|value| traceparent::is_valid(value));
                if *local { self.local_setting = value } else { self.setting = value }
            }
            Some(TransactionControl::Reset { name }) if name == SETTING || name == "all" => self.setting = None,
            Some(TransactionControl::DiscardAll) => self.setting = None,
            _ => {}
        }
    }

    /// Follows the end of a transaction.
    pub(crate) fn transaction_ended(&mut self) {
        self.local_setting = None;
    }
}
