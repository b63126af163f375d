//! The name of a deployment's files in the data folder.

use std::path::PathBuf;

use selfheal_model::DeploymentId;

/// A file name for a deployment with any id: letters, digits, `-`, `_` and inner dots stay, every other byte becomes
/// `%XX`, so that two ids never share a name.
pub fn of_deployment(deployment: &DeploymentId) -> PathBuf {
    let mut name = String::new();
    for (at, byte) in deployment.as_str().bytes().enumerate() {
        if byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_' || (byte == b'.' && at > 0) {
            name.push(char::from(byte));
        } else {
            name.push_str(&format!("%{byte:02X}"));
        }
    }
    PathBuf::from(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_deployment_id_leaves_its_folder() {
        for (id, name) in [("checkout", "checkout"), ("../x", "%2E.%2Fx"), ("a/b", "a%2Fb"), ("ü", "%C3%BC")] {
            assert_eq!(of_deployment(&DeploymentId::from(id)), PathBuf::from(name));
        }
    }
}
