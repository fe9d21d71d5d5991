//! Certificates for this machine, made by `openssl` for one test, by an authority of their own.

use std::path::PathBuf;
use std::process::Command;

use tempfile::TempDir;

const KEY: &str = "-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes";

/// `ca.pem`; `.pem` and `.key` of `server` and `client`, which it signed for 127.0.0.1, localhost and
/// workspace.example; and `other-ca.pem`, which signed neither.
pub struct Certificates {
    folder: TempDir,
}

impl Certificates {
    /// Makes them.
    pub fn new() -> Self {
        let certificates = Self { folder: TempDir::new().unwrap() };
        for ca in ["ca", "other-ca"] {
            certificates.openssl(&format!(
                "req -x509 {KEY} -days 2 -subj /CN={ca} -keyout {ca}.key -out {ca}.pem \
                 -addext basicConstraints=critical,CA:TRUE -addext keyUsage=critical,keyCertSign,cRLSign"
            ));
        }
        let names = "subjectAltName=DNS:localhost,DNS:workspace.example,IP:127.0.0.1\nextendedKeyUsage=serverAuth,clientAuth\n\
                     basicConstraints=critical,CA:FALSE\n";
        std::fs::write(certificates.path("extensions"), names).unwrap();
        for who in ["server", "client"] {
            certificates.openssl(&format!("req {KEY} -subj /CN={who} -keyout {who}.key -out {who}.csr"));
            certificates.openssl(&format!(
                "x509 -req -in {who}.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile extensions -out {who}.pem"
            ));
        }
        certificates
    }

    /// Where a file of theirs is.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// What is in a file of theirs.
    pub fn read(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.path(name)).unwrap()
    }

    fn openssl(&self, words: &str) {
        let ran = Command::new("openssl").args(words.split(' ')).current_dir(self.folder.path()).output();
        let ran = ran.unwrap_or_else(|e| panic!("openssl is missing ({e}): apt-get install openssl"));
        assert!(ran.status.success(), "openssl {words}: {}", String::from_utf8_lossy(&ran.stderr));
    }
}

impl Default for Certificates {
    fn default() -> Self {
        Self::new()
    }
}
