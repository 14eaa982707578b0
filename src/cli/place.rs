//! Which configuration a command is about, and with it which store and which sidecars.

use std::env;
use std::ffi::OsString;
use std::path::PathBuf;

use tokio::time::Instant;

use super::failure::Failure;
use super::output;
use crate::base::clock::Clock;
use crate::clients::ClientStoreError;
use crate::config::{self, Config};
use crate::control;
use crate::store::{self, OpenError, OpenMode, Stores};
use crate::tokens::StoreUnavailable;

/// The configuration file that a command was given.
#[derive(Debug)]
pub(super) struct Place {
    file: PathBuf,
    /// Whether somebody chose it.
    named: bool,
}

impl Place {
    /// `--config`, else `SIDEGATE_CONFIG`, else `./config.toml`.
    pub(super) fn new(argument: Option<PathBuf>) -> Self {
        let from_env = || env::var_os("SIDEGATE_CONFIG").filter(|value| !value.is_empty());
        let chosen = argument.or_else(|| from_env().map(PathBuf::from));
        Self {
            named: chosen.is_some(),
            file: chosen.unwrap_or_else(|| PathBuf::from("config.toml")),
        }
    }

    /// The file, whether it is there or not.
    pub(super) fn file(&self) -> &std::path::Path {
        &self.file
    }

    /// Whether an argument or the environment named the file.
    pub(super) fn is_named(&self) -> bool {
        self.named
    }

    /// Reads the configuration, or says every mistake in it.
    pub(super) fn load(&self) -> Result<Config, Failure> {
        self.read().map_err(|mistakes| {
            let mut text = format!("the configuration cannot be used:\n{mistakes}");
            if !self.named && !self.file.exists() {
                text.push_str(
                    "\nName the file with --config FILE or SIDEGATE_CONFIG. To try Sidegate without one: sidegate dev",
                );
            }
            Failure::configuration(text)
        })
    }

    /// Reads the configuration.
    pub(super) fn read(&self) -> Result<Config, config::Mistakes> {
        config::load(&self.file, config::environment())
    }
}

/// A runtime for a command that does one thing and ends.
pub(super) fn block_on<T>(future: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::other(format!("cannot start: {error}.")))?;
    runtime.block_on(future)
}

/// A command's hold on the store of a configuration.
pub(super) struct OpenStore<'a> {
    config: &'a Config,
    pub(super) stores: Stores,
    pub(super) clock: Clock,
}

impl<'a> OpenStore<'a> {
    /// Opens the store for writing, and makes it where there is none.
    pub(super) async fn to_change(config: &'a Config) -> Result<Self, Failure> {
        Self::open(config, OpenMode::Create).await.map_err(away)
    }

    /// Opens the store for writing if there is one.
    pub(super) async fn to_change_if_there(config: &'a Config) -> Result<Option<Self>, Failure> {
        let store::settings::Settings::Sqlite(file) = &config.store;
        match file.try_exists() {
            Ok(false) => Ok(None),
            // What cannot be looked at is told in the store's own words.
            Ok(true) | Err(_) => Self::to_change(config).await.map(Some),
        }
    }

    /// Opens the store for reading if there is one.
    pub(super) async fn if_there(config: &'a Config) -> Result<Option<Self>, Failure> {
        match Self::open(config, OpenMode::Existing).await {
            Ok(store) => Ok(Some(store)),
            Err(OpenError::Missing { .. }) => Ok(None),
            Err(error) => Err(away(error)),
        }
    }

    async fn open(config: &'a Config, mode: OpenMode) -> Result<Self, OpenError> {
        let clock = Clock::system();
        let stores = store::open(&config.store, clock.clone(), mode).await?;
        Ok(Self {
            config,
            stores,
            clock,
        })
    }

    /// Returns once what was committed just now holds in every sidecar of this host that uses the
    /// store.
    pub(super) async fn wait_until_heard(&self) {
        let committed = Instant::now();
        let untold =
            control::store_changed(&places(self.config), self.stores.id(), committed).await;
        for socket in untold {
            output::say(&format!(
                "sidegate: warning: the sidecar at {} could not be told; it may not have applied this yet. \
                 Its log says why.",
                socket.display()
            ));
        }
    }

    /// Gives the store back whole.
    pub(super) async fn close(self) {
        self.stores.close().await;
    }
}

/// Where control sockets of this configuration's sidecars may be.
pub(super) fn places(config: &Config) -> control::Places {
    let store::settings::Settings::Sqlite(file) = &config.store;
    control::places(
        config.admin.socket.as_deref(),
        Some(file),
        &config.file,
        runtime_directory().as_deref(),
    )
}

/// `$RUNTIME_DIRECTORY`, as systemd sets it.
pub(super) fn runtime_directory() -> Option<OsString> {
    env::var_os("RUNTIME_DIRECTORY")
}

fn away(error: impl std::fmt::Display) -> Failure {
    Failure::unavailable(format!("{error}."))
}

impl From<StoreUnavailable> for Failure {
    fn from(error: StoreUnavailable) -> Self {
        away(error)
    }
}

impl From<ClientStoreError> for Failure {
    fn from(error: ClientStoreError) -> Self {
        match error {
            ClientStoreError::Exists => Self::other(format!("{error}.")),
            ClientStoreError::Unavailable(_) => away(error),
        }
    }
}
