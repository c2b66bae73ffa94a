//! The secret that signs resume tokens, and the file that keeps it over a restart.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use thiserror::Error;

/// Shortest secret, in bytes. Fewer than 128 bits can be guessed.
const MIN_SECRET_LEN: usize = 16;
/// Longest content of a secret file, in bytes: more is another file by mistake.
const MAX_SECRET_LEN: u64 = 4096;
/// Bytes of a secret that the server itself makes: the key length of its hash.
const NEW_SECRET_LEN: usize = 32;

/// Why there is no usable secret.
#[non_exhaustive]
#[derive(Debug, Error)]
pub enum SecretError {
    /// It is too short to be one.
    #[error("secret has {len} bytes: use at least {MIN_SECRET_LEN} random ones")]
    TooShort {
        /// Its length without white space around it.
        len: usize,
    },
    /// The file has more than a secret.
    #[error(
        "secret file {} has more than {MAX_SECRET_LEN} bytes: name a file of its own", path.display()
    )]
    TooLong {
        /// The file.
        path: PathBuf,
    },
    /// The file cannot be read or created.
    #[error("cannot read or create secret file {}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the system reported.
        source: io::Error,
    },
    /// The system gives no random bytes.
    #[error("cannot make a random secret: {0}")]
    Random(io::Error),
}

/// Signs resume tokens: servers with the same secret take each other's members back, also after a restart.
/// Its `Debug` does not show it.
///
/// ```
/// use rollback_lab_server::{LabServer, ServerSecret, ServerSettings};
///
/// let secret = ServerSecret::new(b"from the environment of both servers")?;
/// let server = LabServer::start(ServerSettings {
///     secret: Some(secret),
///     ..ServerSettings::loopback()
/// })?;
/// # drop(server);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct ServerSecret(Vec<u8>);

impl ServerSecret {
    /// Takes a secret; ASCII white space around it is not part of it, so that a text file and an
    /// environment variable can hold the same one.
    ///
    /// # Errors
    /// [`SecretError::TooShort`] below 16 bytes.
    pub fn new(secret: &[u8]) -> Result<Self, SecretError> {
        let secret = secret.trim_ascii();
        if secret.len() < MIN_SECRET_LEN {
            return Err(SecretError::TooShort { len: secret.len() });
        }
        Ok(Self(secret.to_vec()))
    }

    /// Reads the secret from a file. Where there is no such file it is created with a random secret,
    /// readable by its owner alone (mode 0600 on Unix).
    ///
    /// # Errors
    /// When the file can be neither read nor created, or holds no secret.
    pub fn read_or_create(path: &Path) -> Result<Self, SecretError> {
        let failed = |source| SecretError::File {
            path: path.to_owned(),
            source,
        };
        let mut options = OpenOptions::new();
        options.write(true).create_new(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        match options.open(path) {
            Ok(mut file) => {
                let secret = hex(&random_bytes()?);
                writeln!(file, "{secret}")
                    .and_then(|()| file.sync_all())
                    .map_err(failed)?;
                Self::new(secret.as_bytes())
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                let mut content = Vec::new();
                let file = File::open(path).map_err(failed)?;
                let mut limited = file.take(MAX_SECRET_LEN + 1);
                limited.read_to_end(&mut content).map_err(failed)?;
                if content.len() as u64 > MAX_SECRET_LEN {
                    let path = path.to_owned();
                    return Err(SecretError::TooLong { path });
                }
                Self::new(&content)
            }
            Err(source) => Err(failed(source)),
        }
    }

    /// A secret of this process alone.
    ///
    /// # Errors
    /// [`SecretError::Random`] when the system gives no random bytes.
    pub(crate) fn random() -> Result<Self, SecretError> {
        random_bytes().map(|bytes| Self(bytes.to_vec()))
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for ServerSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ServerSecret(..)")
    }
}

fn random_bytes() -> Result<[u8; NEW_SECRET_LEN], SecretError> {
    let mut bytes = [0; NEW_SECRET_LEN];
    getrandom::fill(&mut bytes)
        .map_err(|error| SecretError::Random(io::Error::other(error.to_string())))?;
    Ok(bytes)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scratch(name: &str) -> PathBuf {
        let folder =
            std::env::temp_dir().join(format!("rollback-lab-secret-{}-{name}", std::process::id()));
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir(&folder).unwrap();
        folder
    }

    #[test]
    fn a_missing_file_is_created_for_its_owner_alone_and_read_again() {
        let folder = scratch("create");
        let path = folder.join("secret");
        let made = ServerSecret::read_or_create(&path).unwrap();
        assert_eq!(made.as_bytes().len(), 64, "32 bytes in hexadecimal");
        #[cfg(unix)]
        {
            let mode = std::os::unix::fs::MetadataExt::mode(&path.metadata().unwrap());
            assert_eq!(mode & 0o777, 0o600);
        }
        assert_eq!(ServerSecret::read_or_create(&path).unwrap(), made);
        let other = ServerSecret::read_or_create(&folder.join("other")).unwrap();
        assert_ne!(other, made);
        std::fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn a_file_without_a_secret_is_refused_and_kept() {
        let folder = scratch("short");
        let path = folder.join("secret");
        std::fs::write(&path, "  hunter2\n").unwrap();
        let error = ServerSecret::read_or_create(&path).unwrap_err();
        assert!(matches!(error, SecretError::TooShort { len: 7 }), "{error}");
        assert!(!error.to_string().contains("hunter2"), "{error}");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "  hunter2\n");
        std::fs::write(&path, "x".repeat(5000)).unwrap();
        let error = ServerSecret::read_or_create(&path).unwrap_err();
        assert!(matches!(error, SecretError::TooLong { .. }), "{error}");
        let missing = folder.join("no/such/folder");
        let error = ServerSecret::read_or_create(&missing).unwrap_err();
        assert!(matches!(error, SecretError::File { .. }), "{error}");
        std::fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn white_space_around_a_secret_is_not_part_of_it_and_debug_hides_it() {
        let text = ServerSecret::new(b" 0123456789abcdef\r\n").unwrap();
        assert_eq!(text, ServerSecret::new(b"0123456789abcdef").unwrap());
        assert_eq!(format!("{text:?}"), "ServerSecret(..)");
    }
}
