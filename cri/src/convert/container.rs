//! `ContainerConfig` of the API to that of the model.

use std::path::PathBuf;

use podwright_cri_api::v1;
use podwright_podsandbox::model::ContainerConfig;

use super::{mount, resources, security, signal};
use crate::field::{self, BadField, MAX_ARGUMENT_BYTES, MAX_NAME_BYTES, Within as _, shown};

/// Converts the configuration of a container.
pub(crate) fn container(config: v1::ContainerConfig) -> Result<ContainerConfig, BadField> {
    let metadata = field::required("metadata", config.metadata)?;
    let image = field::required("image", config.image)?;
    let linux = config.linux.unwrap_or_default();
    let context = linux.security_context.unwrap_or_default();
    let (pid_mode, security) = security::of_container(context).within("linux.security_context")?;
    Ok(ContainerConfig {
        name: field::name("name", metadata.name).within("metadata")?,
        attempt: metadata.attempt,
        restore_from: archive(&image.image).within("image")?,
        image: field::name("image", image.image).within("image")?,
        user_specified_image: field::line("user_specified_image", image.user_specified_image, MAX_NAME_BYTES)
            .within("image")?,
        command: field::texts("command", config.command, argument)?,
        args: field::texts("args", config.args, argument)?,
        working_directory: working_directory(config.working_dir)?,
        environment: field::each("envs", config.envs, variable)?,
        mounts: field::each("mounts", config.mounts, mount::mount)?,
        devices: field::each("devices", config.devices, mount::device)?,
        cdi_devices: field::each("CDI_devices", config.cdi_devices, |device| field::name("name", device.name))?,
        labels: field::map("labels", config.labels)?,
        annotations: field::map("annotations", config.annotations)?,
        log_path: field::inner_path("log_path", config.log_path)?,
        stdin: config.stdin,
        stdin_once: config.stdin_once,
        terminal: config.tty,
        stop_signal: signal::to_linux("stop_signal", config.stop_signal)?,
        resources: resources::whole_resources(linux.resources.unwrap_or_default()).within("linux.resources")?,
        security,
        pid_mode,
    })
}

/// The path of a checkpoint's archive stands in the place of an image's name. No image's name begins so.
fn archive(image: &str) -> Result<Option<PathBuf>, BadField> {
    if image.starts_with('/') { field::absolute_path("image", image.to_owned()).map(Some) } else { Ok(None) }
}

fn argument(field: &str, value: String) -> Result<String, BadField> {
    field::text(field, value, MAX_ARGUMENT_BYTES)
}

fn working_directory(value: String) -> Result<String, BadField> {
    let path = field::absolute_path_or_empty("working_dir", value)?;
    Ok(path.to_string_lossy().into_owned())
}

/// Values are bytes; errors never show them.
fn variable(variable: v1::KeyValue) -> Result<(String, Vec<u8>), BadField> {
    let v1::KeyValue { key, value } = variable;
    let key = field::text("key", key, MAX_ARGUMENT_BYTES)?;
    if key.is_empty() || key.contains('=') {
        return Err(BadField::new("key", format!("{} is not the name of a variable", shown(&key))));
    }
    // What the kernel bounds is name, equals sign and value together.
    if key.len() + 1 + value.len() > MAX_ARGUMENT_BYTES {
        let problem = format!("the value of {} is {} bytes long; with its name at most", shown(&key), value.len());
        return Err(BadField::new("value", format!("{problem} {MAX_ARGUMENT_BYTES} are allowed")));
    }
    if value.contains(&0) {
        return Err(BadField::new("value", format!("the value of {} has a NUL byte", shown(&key))));
    }
    Ok((key, value))
}
