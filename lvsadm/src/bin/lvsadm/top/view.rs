//! What the live view looks like.

use ratatui::Frame;
use ratatui::layout::{Alignment, Constraint, Layout};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line as Text, Span};
use ratatui::widgets::{Cell, Paragraph, Row, Table};

use super::model::{Column, Direction, Line, Top};

/// Draws the whole screen.
pub(crate) fn draw(frame: &mut Frame<'_>, top: &mut Top) {
    let [head, body, foot] =
        Layout::vertical([Constraint::Length(1), Constraint::Min(1), Constraint::Length(1)])
            .areas(frame.area());
    let lines = top.lines();
    // Nothing is scrolled out of sight of a screen that has grown.
    let shown = usize::from(body.height.saturating_sub(1)).max(1);
    top.offset = top.offset.min(lines.len().saturating_sub(shown));
    let top = &*top;
    frame.render_widget(Paragraph::new(title(top, &lines)), head);
    let longest = lines.iter().map(|line| line.address.chars().count()).max().unwrap_or_default();
    let (columns, address) = columns(body.width, top.column, longest);
    let rows = lines.iter().skip(top.offset).map(|line| row(line, &columns));
    let widths = columns.iter().map(|column| Constraint::Length(width(*column, address)));
    let widths = widths.chain([Constraint::Fill(1)]);
    let header = Row::new(header(top, &columns)).style(Style::new().add_modifier(Modifier::REVERSED));
    frame.render_widget(Table::new(rows, widths).header(header), body);
    frame.render_widget(Paragraph::new(KEYS).style(Style::new().add_modifier(Modifier::DIM)), foot);
}

fn title<'a>(top: &'a Top, lines: &[Line]) -> Text<'a> {
    // What is below is not true any more, so that comes first.
    if let Some(trouble) = &top.trouble {
        return Text::from(vec![
            Span::raw(format!("{}  ", top.place)),
            Span::styled(trouble.as_str(), Color::Red),
        ]);
    }
    let services = lines.iter().filter(|line| line.state.is_none());
    let (mut count, mut active, mut rate) = (0, 0, 0);
    for service in services {
        count += 1;
        active += service.active;
        rate += service.rates.connections;
    }
    let unusable = |line: &&Line| matches!(line.state.as_deref(), Some("down" | "ejected"));
    let failed = lines.iter().filter(unusable).count();
    let mut spans = vec![Span::raw(format!(
        "{}  services {count}  servers {}  active {active}  conn/s {rate}",
        top.place,
        lines.len() - count
    ))];
    if failed > 0 {
        spans.push(Span::styled(format!("  down {failed}"), Color::Red));
    }
    if top.is_paused() {
        spans.push(Span::styled("  paused", Color::Yellow));
    }
    Text::from(spans)
}

/// The columns that there is room for, and how wide that of addresses is, of which the longest is given: those
/// that say least make way first, but never the one that is sorted by.
fn columns(room: u16, sorted: Column, longest: usize) -> (Vec<Column>, u16) {
    let mut columns = Column::ALL.to_vec();
    let taken = |columns: &[Column], address: u16| -> u16 {
        columns.iter().map(|column| width(*column, address) + 1).sum()
    };
    if taken(&columns, ADDRESS) + WHY <= room {
        return (columns, ADDRESS);
    }
    let title = Column::Address.title().chars().count() + 1;
    let address = u16::try_from(longest.max(title)).map_or(ADDRESS, |longest| longest.min(ADDRESS));
    let reasons = SPARED.iter().map(|column| (*column, WHY));
    // The last ones make way for addresses alone: without them nobody knows what is what.
    for (spared, besides) in reasons.chain(SPARED_LAST.map(|column| (column, 0))) {
        if taken(&columns, address) + besides <= room {
            break;
        }
        columns.retain(|column| *column != spared || *column == sorted);
    }
    (columns, address)
}

fn header(top: &Top, columns: &[Column]) -> Vec<Cell<'static>> {
    let titles = columns.iter().map(|&column| {
        let mark = match top.direction {
            _ if column != top.column => "",
            Direction::Usual => "*",
            Direction::Reversed => "!",
        };
        aligned(format!("{}{mark}", column.title()), column)
    });
    titles.chain([Cell::from("Why")]).collect()
}

fn row<'a>(line: &'a Line, columns: &[Column]) -> Row<'a> {
    let style = match line.state.as_deref() {
        None => Style::new().add_modifier(Modifier::BOLD),
        Some("down" | "ejected") => Style::new().fg(Color::Red),
        Some("full" | "draining" | "quiesced" | "warming") => Style::new().fg(Color::Yellow),
        Some(_) => Style::new(),
    };
    let cell = |column: Column| {
        let text = match column {
            Column::Address => line.address.clone(),
            Column::State => line.state.clone().unwrap_or_default(),
            Column::Weight => line.weight.map(|weight| weight.to_string()).unwrap_or_default(),
            Column::Active => line.active.to_string(),
            Column::Inactive => line.inactive.to_string(),
            Column::ConnectionRate => short(line.rates.connections),
            Column::RateIn => short(line.rates.bytes_in),
            Column::RateOut => short(line.rates.bytes_out),
            Column::Connections => short(line.connections),
            Column::Availability => {
                line.availability.map(|share| format!("{:.2}", share * 100.0)).unwrap_or_default()
            }
        };
        aligned(text, column)
    };
    let cells = columns.iter().copied().map(cell).chain([Cell::from(line.reason.as_str())]);
    Row::new(cells.collect::<Vec<_>>()).style(style)
}

/// Numbers stand at the right of their column.
fn aligned(text: String, column: Column) -> Cell<'static> {
    let is_text = matches!(column, Column::Address | Column::State);
    let alignment = if is_text { Alignment::Left } else { Alignment::Right };
    Cell::from(Text::from(text).alignment(alignment))
}

fn width(column: Column, address: u16) -> u16 {
    match column {
        Column::Address => address,
        Column::State => 8,
        Column::Weight | Column::Active | Column::Inactive | Column::Availability => 7,
        Column::ConnectionRate | Column::RateIn | Column::RateOut | Column::Connections => 8,
    }
}

/// A number in at most six characters.
fn short(number: u64) -> String {
    match number {
        0..100_000 => number.to_string(),
        100_000..10_000_000 => format!("{}K", number / 1_000),
        10_000_000..10_000_000_000 => format!("{}M", number / 1_000_000),
        10_000_000_000..10_000_000_000_000 => format!("{}G", number / 1_000_000_000),
        _ => format!("{}T", number / 1_000_000_000_000),
    }
}

/// In the order in which they make way.
const SPARED: [Column; 6] = [
    Column::Inactive,
    Column::Connections,
    Column::Weight,
    Column::RateIn,
    Column::Availability,
    Column::RateOut,
];

/// And then these.
const SPARED_LAST: [Column; 3] = [Column::ConnectionRate, Column::Active, Column::State];

/// Width of the column of addresses where there is room.
const ADDRESS: u16 = 34;

/// Room that the reason should have.
const WHY: u16 = 12;

const KEYS: &str = "q quit   s S sort column   r reverse   p pause   arrows scroll";

#[cfg(test)]
mod tests {
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;

    use super::*;
    use crate::top::model::tests::sample;

    fn screen(top: &mut Top, width: u16, height: u16) -> Vec<String> {
        let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
        terminal.draw(|frame| draw(frame, top)).unwrap();
        let buffer = terminal.backend().buffer();
        let rows = buffer.content().chunks(width.into());
        rows.map(|row| row.iter().map(|cell| cell.symbol()).collect::<String>().trim_end().to_owned())
            .collect()
    }

    #[test]
    fn screen_shows_services_servers_and_why_one_is_down() {
        let mut top = Top::new("/run/l4-proxy.sock".to_owned());
        top.take(Ok(sample()));
        assert_eq!(
            screen(&mut top, 132, 9),
            [
                "/run/l4-proxy.sock  services 2  servers 4  active 10  conn/s 99  down 1",
                "Service / Server*                  State     Weight  Active   Inact   Conn/s   In B/s  Out B/s    Conns   Avail Why",
                "TCP 192.0.2.1:80 wlc                                      9       0        9        0        0        0         3 refused",
                "  -> 10.0.0.1:80                   down           1       0       0        0        0        0        0   50.00 2 × connect refused",
                "  -> 10.0.0.2:80                   up             1       2       0        3        0    30000      300  100.00",
                "  -> 10.0.0.3:80                   up             1       7       0        6        0    60000      600  100.00",
                "TCP 192.0.2.2:80 wlc                                      1       0       90        0        0        0         3 refused",
                "  -> 10.0.0.4:80                   up             1       1       0       90        0     900K     9000  100.00",
                "q quit   s S sort column   r reverse   p pause   arrows scroll",
            ]
        );
    }

    #[test]
    fn small_screen_shows_what_it_can() {
        let mut top = Top::new(String::new());
        top.take(Ok(sample()));
        for (width, height) in [(1, 1), (20, 3), (80, 24)] {
            screen(&mut top, width, height);
        }
        top.offset = 5;
        assert!(screen(&mut top, 80, 4)[2].starts_with("  -> 10.0.0.4:80"));
    }

    #[test]
    fn narrow_screen_tells_servers_apart_and_one_that_grows_shows_all() {
        let mut top = Top::new("sock".to_owned());
        top.take(Ok(sample()));
        let narrow = screen(&mut top, 40, 10);
        assert!(narrow[1].starts_with("Service / Server*    State     Active"), "{narrow:#?}");
        assert!(narrow[3].starts_with("  -> 10.0.0.1:80     down           0"), "{narrow:#?}");
        assert!(screen(&mut top, 21, 10)[4].starts_with("  -> 10.0.0.2:80"));
        top.offset = 4;
        screen(&mut top, 40, 5);
        assert_eq!(top.offset, 4);
        assert!(screen(&mut top, 40, 24)[2].starts_with("TCP 192.0.2.1:80"));
    }

    #[test]
    fn director_that_does_not_answer_is_seen_on_any_screen() {
        let mut top = Top::new("sock".to_owned());
        top.take(Ok(sample()));
        top.take(Err("Connection refused".to_owned()));
        assert_eq!(screen(&mut top, 40, 10)[0], "sock  Connection refused");
    }
}
