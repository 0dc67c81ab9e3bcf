//! The request that a client itself names behind its statements.

use txray_store::event::{Declared, DeclaredBy, TransactionOutcome};
use txray_store::sql_lexer::TransactionControl;

use super::sql::Sql;
use super::traceparent;

/// The setting by which a client names its request.
pub(super) const SETTING: &str = "txray.traceparent";

/// Savepoints that are remembered; rolling back to one that is not leaves the setting as it is.
const SAVEPOINTS_MAX: usize = 256;

/// What the client declared, by level.
///
/// The setting is PostgreSQL's own, a parameter that it takes for an extension's and keeps for the session: the server answers SET,
/// RESET and SHOW of it, and takes it back with what is rolled back. It is followed here as the server does it.
#[derive(Debug, Default)]
pub(crate) struct Attribution {
    setting: Setting,
    /// The setting as the open transaction found it; none before the first command that matters to it.
    found: Option<Setting>,
    /// The setting at each savepoint of the open transaction.
    savepoints: Vec<(String, Setting)>,
    application_name: Option<String>,
}

/// A parameter of the session.
#[derive(Debug, Clone, Default)]
struct Setting {
    session: Option<String>,
    /// SET LOCAL, until the transaction ends or the session's value is set.
    local: Option<Local>,
}

/// A value that hides the session's, also when it names no request.
#[derive(Debug, Clone)]
struct Local(Option<String>);

impl Setting {
    fn of_session(value: Option<String>) -> Self {
        Setting { session: value, local: None }
    }

    fn value(&self) -> Option<&String> {
        self.local.as_ref().map_or(&self.session, |local| &local.0).as_ref()
    }
}

impl Attribution {
    pub(crate) fn new(application_name: Option<&str>) -> Self {
        let mut attribution = Attribution::default();
        attribution.application_name(application_name.unwrap_or_default());
        attribution
    }

    /// The best declaration for a statement with this text.
    pub(crate) fn declared(&self, sql: &Sql) -> Option<Declared> {
        let levels = [
            (DeclaredBy::Setting, self.setting.value()),
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
                let session = self.setting.session.clone();
                self.set(if *local {
                    Setting { session, local: Some(Local(value)) }
                } else {
                    Setting::of_session(value)
                });
            }
            Some(TransactionControl::Reset { name }) if name == SETTING || name == "all" => {
                self.set(Setting::default());
            }
            Some(TransactionControl::DiscardAll) => self.set(Setting::default()),
            Some(TransactionControl::Savepoint { name }) if self.savepoints.len() < SAVEPOINTS_MAX => {
                self.savepoints.push((name.clone(), self.setting.clone()));
            }
            Some(TransactionControl::RollbackTo { savepoint }) => {
                if let Some(index) = self.index_of(savepoint) {
                    self.savepoints.truncate(index + 1);
                    self.setting = self.savepoints[index].1.clone();
                }
            }
            Some(TransactionControl::Release { savepoint }) => {
                if let Some(index) = self.index_of(savepoint) {
                    self.savepoints.truncate(index);
                }
            }
            _ => {}
        }
    }

    fn set(&mut self, setting: Setting) {
        let found = std::mem::replace(&mut self.setting, setting);
        self.found.get_or_insert(found);
    }

    fn index_of(&self, savepoint: &str) -> Option<usize> {
        self.savepoints.iter().rposition(|(name, _)| name == savepoint)
    }

    /// Follows the end of a transaction.
    pub(crate) fn transaction_ended(&mut self, outcome: TransactionOutcome) {
        if let Some(found) = self.found.take()
            && outcome == TransactionOutcome::RolledBack
        {
            self.setting = found;
        }
        self.setting.local = None;
        self.savepoints.clear();
    }
}
